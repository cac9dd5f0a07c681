"""A real RabbitMQ on the loopback, which a test can kill, start again and alarm."""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from farm.local.process import spawn
from tests.support.ports import free_ports
from tests.support.rabbitmq_install import SUITE, can_install, installed

USER = "farm"
PASSWORD = "pass/word?"  # as it may be: percent-encoded in URLs

ALARMS = {
    "memory": ("vm_memory_monitor:set_vm_memory_high_watermark", 0.0001, 0.6),
    "disk": ("rabbit_disk_monitor:set_disk_free_limit", 10**18, 10**6),
}
"""What sets the limit of a resource, a limit that is passed at once, and the usual one."""


def rabbitmq_folder(suite: str = SUITE) -> Path:
    """The folder of an installed server; without one the test is skipped, or fails in CI."""
    message = "RabbitMQ's packages cannot be fetched: this machine has no apt-get"
    if can_install():
        try:
            return installed(suite)
        except subprocess.CalledProcessError as error:
            message = f"RabbitMQ's packages cannot be fetched: {error}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class RabbitMQ:
    """A server whose data is in a folder."""

    def __init__(
        self, folder: Path, *, suite: str = SUITE, certificate: Path | None = None, config: str = ""
    ) -> None:
        self._installed = rabbitmq_folder(suite)
        self._folder = folder
        self._certificate = certificate
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.api_port, self._dist_port, self._epmd_port = free_ports(4)
        self._write_config(config)
        # Else the server would start one that outlives it.
        self._epmd = self._spawn(self._runtime / "epmd", "-address", "127.0.0.1")
        self.start()

    @property
    def url(self) -> str:
        """The URL of its first virtual host."""
        return self.vhost_url("/")

    @property
    def api(self) -> str:
        """The URL of its management API."""
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://{USER}:{quote(PASSWORD, '')}@127.0.0.1:{self.api_port}"

    def vhost_url(self, vhost: str) -> str:
        scheme = "amqps" if self._certificate else "amqp"
        login = f"{USER}:{quote(PASSWORD, '')}"
        return f"{scheme}://{login}@127.0.0.1:{self.port}/{quote(vhost, '')}"

    def new_vhost(self) -> str:
        """The URL of a new, empty virtual host."""
        vhost = secrets.token_hex(4)
        self.request("PUT", f"vhosts/{vhost}")
        return self.vhost_url(vhost)

    def start(self) -> None:
        """Starts it, again with the data that it had; returns once it responds."""
        scripts = self._installed / "usr/lib/rabbitmq/bin"
        self.process = self._spawn(scripts / "rabbitmq-server")
        while not self._is_responding():
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """As a machine that fails would."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Connections stay open, and nothing is answered, until the block ends."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for process in (self.process, self._epmd):
            process.terminate()
            process.wait()

    @contextmanager
    def alarm(self, resource: str) -> Iterator[None]:
        """Too little memory or disk until the block ends."""
        command, too_much, normal = ALARMS[resource]
        self.evaluate(f"{command}({too_much}).")
        try:
            yield
        finally:
            self.evaluate(f"{command}({normal}).")

    def drop_connections(self) -> None:
        """Closes the connections of all clients without a word."""
        pids = "rabbit_networking:connections()"
        self.evaluate(f"[exit(Pid, kill) || Pid <- {pids}].")

    def evaluate(self, expression: str) -> str:
        """What an Erlang expression returns in the server."""
        command = [
            *(str(self._runtime / "erl_call"), "-timeout", "60"),
            *("-address", f"127.0.0.1:{self._dist_port}", "-c", self._cookie, "-e"),
        ]
        done = subprocess.run(
            command, input=f"{expression}\n", capture_output=True, text=True, check=False
        )
        return done.stdout

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """An answer of the management API; None if it is empty."""
        scheme, _, rest = self.api.partition("://")
        request = urllib.request.Request(
            f"{scheme}://{rest.rpartition('@')[2]}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        request.add_header("Content-Type", "application/json")
        context = ssl.create_default_context(cafile=self._certificate)
        with urllib.request.urlopen(request, context=context) as answer:
            return json.loads(answer.read() or "null")

    @property
    def _runtime(self) -> Path:
        (runtime,) = self._installed.glob("usr/lib/erlang/erts-*/bin")
        return runtime

    @property
    def _log(self) -> Path:
        return self._folder / "rabbitmq.log"

    @property
    def _cookie(self) -> str:
        return (self._folder / ".erlang.cookie").read_text()

    def _spawn(self, *command: Path | str) -> subprocess.Popen[bytes]:
        environ = {
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            "PATH": f"{self._runtime}:{os.environ['PATH']}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_LOGS": "-",
            # As under systemd the script becomes the server instead of its parent.
            "NOTIFY_SOCKET": os.devnull,
        }
        return spawn([str(word) for word in command], log=self._log, environ=environ)

    def _write_config(self, more: str) -> None:
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex())
        cookie.chmod(0o400)
        (self._folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        kind = "ssl" if self._certificate else "tcp"
        lines = [
            "listeners.tcp = none" if self._certificate else "",
            f"listeners.{kind}.1 = 127.0.0.1:{self.port}",
            f"management.{kind}.ip = 127.0.0.1",
            f"management.{kind}.port = {self.api_port}",
            f"default_user = {USER}",
            f"default_pass = {PASSWORD}",
            "disk_free_limit.absolute = 1MB",
            "collect_statistics_interval = 500",
            more,
        ]
        for prefix in ("ssl_options", "management.ssl") if self._certificate else ():
            for name in ("certfile", "keyfile"):
                lines.append(f"{prefix}.{name} = {self._certificate}")
        (self._folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _is_responding(self) -> bool:
        try:
            return bool(self.request("GET", "overview"))
        except (OSError, urllib.error.URLError):
            return False
