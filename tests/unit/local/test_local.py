"""The local broker and child processes, which leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from farm.errors import FarmUnreachable, InvalidInput
from farm.local.broker import Broker
from farm.local.process import spawn, stop, tail
from farm.local.supervisor import Supervisor, open_supervisor
from farm.local.worker import worker_command, worker_environ
from farm.registry import farm_registry
from farm.registry.workers import worker_name
from farm.settings import Settings
from tests.support.commands import run_python

PYTHON = [sys.executable, "-c"]


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_broker_is_found_by_its_url_file_until_it_is_stopped(tmp_path):
    settings = Settings(home=tmp_path)
    broker = Broker(settings)
    assert settings.broker_address == broker.url
    broker.stop()
    assert not settings.broker_url_file.exists()
    with redis.Redis.from_url(broker.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_broker_that_is_still_running_is_adopted(running_broker):
    assert Broker(running_broker.settings).url == running_broker.url


def test_queued_messages_survive_a_restart(tmp_path):
    settings = Settings(home=tmp_path)
    first = Broker(settings)
    with redis.Redis.from_url(first.url) as client:
        client.rpush("cpu", "a message")
    first.stop()
    second = Broker(settings)
    with redis.Redis.from_url(second.url) as client:
        kept = client.lrange("cpu", 0, -1)
    second.stop()
    assert kept == [b"a message"]


def test_a_restarted_broker_has_the_same_url(tmp_path):
    settings = Settings(home=tmp_path)
    first = Broker(settings)
    first.stop()
    second = Broker(settings)
    second.stop()
    assert second.url == first.url


def test_a_restarted_broker_takes_another_port_if_its_own_is_in_use(tmp_path):
    settings = Settings(home=tmp_path)
    first = Broker(settings)
    first.stop()
    with socket.create_server(("127.0.0.1", urlsplit(first.url).port)):
        second = Broker(settings)
    second.stop()
    assert urlsplit(second.url).port != urlsplit(first.url).port


def test_an_unusable_home_is_rejected(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InvalidInput, match=r"FARM_HOME: got '.*file'; allowed: a writable folder of its own"
    ):
        open_supervisor(Settings(home=tmp_path / "file")).__enter__()


def test_only_the_owner_can_read_the_brokers_password(running_broker):
    folder = running_broker.settings.folder / "run"
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("broker", "broker.conf")} == {
        0o600
    }


def test_only_the_owner_can_read_what_the_broker_writes(running_broker):
    with redis.Redis.from_url(running_broker.url) as client:
        client.set("prompt", "a secret")
    files = list((running_broker.settings.folder / "broker").rglob("*"))
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert any(path.is_file() for path in files)


def test_a_broker_requires_its_password(running_broker):
    address = running_broker.url.rpartition("@")[2]
    with (
        redis.Redis.from_url(f"redis://{address}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_a_child_writes_to_its_log(tmp_path):
    child = spawn(
        [*PYTHON, "print('one'); print('two')"],
        log=tmp_path / "logs" / "child.log",
        environ=os.environ,
    )
    child.wait()
    assert tail(tmp_path / "logs" / "child.log", lines=1) == "two"


def test_a_missing_log_has_no_last_lines(tmp_path):
    assert tail(tmp_path / "child.log") == ""


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children(tmp_path):
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "child = os.fork(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    log = tmp_path / "child.log"
    child = spawn([*PYTHON, program], log=log, environ=os.environ)
    wait_until(lambda: len(log.read_text().split()) == 2 if log.is_file() else False)
    stop([child], grace_s=0.1)
    pids = [int(word) for word in log.read_text().split()]
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_a_child_ends_with_its_parent_even_after_sigkill(tmp_path):
    log = tmp_path / "child.log"
    program = (
        "import os, sys, time; from pathlib import Path; from farm.local.process import spawn; "
        f"child = spawn([sys.executable, '-c', 'import time; time.sleep(60)'], "
        f"log=Path({str(log)!r}), "
        "environ=os.environ); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([*PYTHON, program], stdout=subprocess.PIPE, text=True) as parent:
        grandchild = int(parent.stdout.readline())
        assert is_running(grandchild)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(grandchild))


def test_the_worker_that_does_not_come_is_given_up_with_the_end_of_its_log(tmp_path, broker):
    settings = Settings(home=tmp_path, broker_url=broker, download_concurrency=0)
    supervisor = Supervisor(settings.model_copy(update={"start_timeout_s": 0.01}))
    hanging = ["sh", "-c", "echo waiting for a stranger; exec sleep 60"]
    supervisor.commands = {"cpu": ["sleep", "60"], "gpu": hanging}
    supervisor.start()
    try:
        cpu = worker_name("cpu", os.uname().nodename, supervisor.children["cpu"].pid)
        farm_registry(settings).workers.heartbeat(cpu)
        wait_until(lambda: tail(supervisor.log("gpu")) != "")
        with pytest.raises(FarmUnreachable, match=r"the gpu worker did.*\nwaiting for a stranger"):
            supervisor.wait_until_ready()
    finally:
        stop(list(supervisor.children.values()), grace_s=1)


def test_a_worker_gives_up_a_broker_that_does_not_come(tmp_path):
    done = run_python(
        "from farm.tasks import preconditions; from farm import logs; "
        "logs.configure(); preconditions.check()",
        check=False,
        FARM_HOME=str(tmp_path),
        FARM_BROKER_URL="redis://127.0.0.1:1/0",
        FARM_START_TIMEOUT_S="0.1",
    )
    assert done.returncode == 1
    assert "worker_refused" in done.stderr
    assert "no broker answers at 127.0.0.1:1" in done.stderr


def test_a_gpu_worker_has_one_process_and_a_cpu_worker_cpu_concurrency():
    settings = Settings(cpu_concurrency=7)
    gpu = worker_command("gpu", settings)
    cpu = worker_command("cpu", settings)
    assert gpu[gpu.index("--concurrency") + 1] == "1"
    assert cpu[cpu.index("--concurrency") + 1] == "7"
    queues = (gpu[gpu.index("--queues") + 1], cpu[cpu.index("--queues") + 1])
    assert queues == ("gpu-local,gpu", "cpu")


def test_downloads_have_threads():
    command = worker_command("downloads", Settings(download_concurrency=7))
    assert command[command.index("--pool") + 1 :][:3] == ["threads", "--concurrency", "7"]


def test_no_worker_downloads_in_no_threads():
    with pytest.raises(InvalidInput, match="FARM_DOWNLOAD_CONCURRENCY: got 0; allowed: 1"):
        worker_command("downloads", Settings(download_concurrency=0))


@pytest.mark.skipif(sys.platform != "linux", reason="another allocator")
def test_a_worker_returns_freed_memory_to_the_system():
    # Given 200 MB in pieces of which the last is kept, after a larger one that raised glibc's own
    # threshold
    program = (
        "from pathlib import Path; large = bytearray(20 << 20); del large; "
        "parts = [bytearray(4 << 20) for _ in range(50)]; del parts[:-1]; "
        "print(int(Path('/proc/self/statm').read_text().split()[1]) * 4096 >> 20)"
    )
    resident_mb = subprocess.run(
        [*PYTHON, program], env=worker_environ(os.environ), capture_output=True, check=True
    ).stdout
    assert int(resident_mb) < 50


def test_the_operators_malloc_tunables_override_ours():
    environ = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    assert worker_environ(environ) == environ
