"""What requests that wait cost the gateway: many of them beside others that ask for a status.

    python -m benchmarks.gateway [--waits 500] [--rate 50] [--seconds 20] [--jobs 100]

The jobs stay in the queue, and report progress twenty times a second in all, as those of a busy
farm do. At the end all of them are cancelled, which answers those who wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import quantiles

import psutil

from farm import Farm
from farm.job import Event
from farm.local.broker import Broker
from farm.settings import Settings

REQUEST = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}
EVENTS_PER_S = 20
CONNECTIONS = 10
"""Of the client that asks for statuses; each is used again, as clients do."""


@dataclass(frozen=True)
class Figures:
    """What was measured; CPU as shares of one core."""

    status_ms: list[float]
    answered_ms: list[float]
    """From the end of the jobs to the answer of each request that waited."""
    gateway_cpu: float
    broker_cpu: float
    threads: int
    megabytes: float

    def table(self) -> str:
        rows = [
            ("requests for a status", f"{len(self.status_ms)}"),
            ("their latency, p50 / p99 / most", _spread(self.status_ms)),
            ("waits answered after the end, p50 / p99 / most", _spread(self.answered_ms)),
            ("gateway: CPU, of one core", f"{self.gateway_cpu:.0%}"),
            ("broker: CPU, of one core", f"{self.broker_cpu:.0%}"),
            ("gateway: threads", f"{self.threads}"),
            ("gateway: memory", f"{self.megabytes:.0f} MB"),
        ]
        return "\n".join(f"{name:48}  {value}" for name, value in rows)


def _spread(milliseconds: Sequence[float]) -> str:
    parts = quantiles(milliseconds, n=100)
    return f"{parts[49]:.1f} / {parts[98]:.1f} / {max(milliseconds):.1f} ms"


async def call(port: int, key: str, path: str) -> dict[str, object]:
    """The answer to a GET on a connection of its own."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    answer = await ask(streams, key, path)
    streams[1].close()
    return answer


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(streams: Streams, key: str, path: str) -> dict[str, object]:
    """The answer to a GET on an open connection."""
    reader, writer = streams
    head = f"GET /v2/any/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n\r\n"
    writer.write(head.encode())
    headers = await reader.readuntil(b"\r\n\r\n")
    if not headers.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(headers.decode())
    length = int(headers.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    answer: dict[str, object] = json.loads(await reader.readexactly(length))
    return answer


async def wait_for_end(port: int, key: str, job_id: str) -> float:
    """When a request that waits was answered."""
    while True:
        answer = await call(port, key, f"status-sync/{job_id}?wait=300000")
        if answer["status"] == "CANCELLED":
            return time.perf_counter()


async def time_statuses(
    port: int, key: str, job_ids: Sequence[str], *, rate: int, seconds: float
) -> list[float]:
    """The latencies of requests that are sent at a steady rate, however long each takes."""
    idle: asyncio.Queue[Streams] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    jobs = cycle(job_ids)

    async def timed(due_at: float) -> float:
        streams = await idle.get()
        await ask(streams, key, f"status/{next(jobs)}")
        idle.put_nowait(streams)
        return 1000 * (time.perf_counter() - due_at)

    begin = time.perf_counter()
    asked = []
    for number in range(int(rate * seconds)):
        due_at = begin + number / rate
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        asked.append(asyncio.create_task(timed(due_at)))
    return list(await asyncio.gather(*asked))


async def report_progress(farm: Farm, job_ids: Sequence[str]) -> None:
    """Advances the jobs in turn until it is cancelled."""
    for number in cycle(range(10**6)):
        job_id = job_ids[number % len(job_ids)]
        event = Event(stage=f"chunk_0_sampling_{number % 100}", pct=30, job_id=job_id)
        await asyncio.to_thread(farm.context.registry.jobs.report, event)
        await asyncio.sleep(1 / EVENTS_PER_S)


async def measure(
    farm: Farm, processes: Processes, port: int, key: str, options: argparse.Namespace
) -> Figures:
    caller = farm.as_caller(farm.caller)
    job_ids = [caller.submit(REQUEST).id for _ in range(options.jobs)]
    waits = [
        asyncio.create_task(wait_for_end(port, key, job_id))
        for _, job_id in zip(range(options.waits), cycle(job_ids), strict=False)
    ]
    progress = asyncio.create_task(report_progress(farm, job_ids))
    await asyncio.sleep(2)  # until all connections are open, and the first reads are over
    with processes.watched() as shares:
        status_ms = await time_statuses(
            port, key, job_ids, rate=options.rate, seconds=options.seconds
        )
    threads, megabytes = processes.gateway.num_threads(), processes.gateway.memory_info().rss / 1e6
    progress.cancel()
    await asyncio.to_thread(caller.cancel, job_ids)
    ended_at = time.perf_counter()
    answered = await asyncio.gather(*waits)
    return Figures(
        status_ms=status_ms,
        answered_ms=[1000 * max(0.0, at - ended_at) for at in answered],
        gateway_cpu=shares["gateway"],
        broker_cpu=shares["broker"],
        threads=threads,
        megabytes=megabytes,
    )


@dataclass(frozen=True)
class Processes:
    gateway: psutil.Process
    broker: psutil.Process

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """The share of a core that each takes while the block runs, once it has ended."""
        shares: dict[str, float] = {}
        named = {"gateway": self.gateway, "broker": self.broker}
        before = {name: sum(each.cpu_times()[:2]) for name, each in named.items()}
        begin = time.perf_counter()
        yield shares
        took_s = time.perf_counter() - begin
        for name, each in named.items():
            shares[name] = (sum(each.cpu_times()[:2]) - before[name]) / took_s


@contextmanager
def gateway_of(settings: Settings, port: int) -> Iterator[subprocess.Popen[str]]:
    """A gateway that listens while the block runs."""
    command = (sys.executable, "-m", "farm", "gateway", "--address", f"127.0.0.1:{port}")
    environ = {"FARM_HOME": str(settings.home), "FARM_BROKER_URL": settings.broker_address}
    process = subprocess.Popen(  # noqa: S603
        command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the gateway has ended")
        yield process
    finally:
        process.terminate()
        process.wait()


def run(home: Path, options: argparse.Namespace) -> Figures:
    broker = Broker(Settings(home=home))
    settings = Settings(home=home, broker_url=broker.url)
    farm = Farm(settings=settings)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        with gateway_of(settings, port) as process:
            info = farm.context.registry.backend.redis.info("server")  # type: ignore[attr-defined]
            processes = Processes(psutil.Process(process.pid), psutil.Process(info["process_id"]))
            return asyncio.run(measure(farm, processes, port, "any", options))
    finally:
        broker.stop()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--waits", type=int, default=500)
    parser.add_argument("--rate", type=int, default=50, help="requests a second for a status")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=100)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), parse(sys.argv[1:])).table())
