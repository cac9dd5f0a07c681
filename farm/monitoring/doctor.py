"""What a farm needs, looked at from this machine: each thing by itself, with what to do about it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from farm.errors import FarmError, FarmUnreachable
from farm.queue.app import DESKS, make_app
from farm.registry import open_registry
from farm.registry.redis import RedisLedger
from farm.settings import Settings
from farm.store import open_store

CLOCK_S = 60.0
"""Clocks that differ by more are worth a word; an S3 service refuses 15 minutes."""

SCARCE_GB, TOO_LITTLE_GB = 10.0, 1.0
ANSWER_S = 2.0
"""How long workers are waited for."""


@dataclass(frozen=True)
class Finding:
    """`fine`, `odd` if the farm works without it, or `broken`; and the `remedy` unless all is fine."""

    what: str
    state: Literal["fine", "odd", "broken"]
    said: str
    remedy: str = ""


Look = Callable[[Settings], Finding]


def findings(settings: Settings) -> Iterator[Finding]:
    """One for each thing that a farm needs, whatever becomes of looking at another."""
    at_once = settings.model_copy(update={"store_retry_s": 0.0})
    for what, (look, remedy) in LOOKS.items():
        try:
            yield look(at_once)
        except FarmError as error:
            yield Finding(what, "broken", error.message, remedy)
        except ImportError as error:
            yield Finding(what, "odd", f"{error.name} is not installed here", "pip install infinitetalk-farm[worker]")
        except Exception as error:  # a driver's, for instance
            yield Finding(what, "broken", f"{type(error).__name__}: {error}", remedy)


def _broker(settings: Settings) -> Finding:
    with _ledger(settings).redis as client:
        began = time.monotonic()
        told = client.info("everything")
        said = f"{told.get('server_name', 'redis')} {told['redis_version']}, {1000 * (time.monotonic() - began):.0f} ms"
    if not told["aof_enabled"]:
        return Finding(
            "broker", "odd", f"{said}, without an append-only file", "set appendonly yes: else a crash loses jobs"
        )
    if told["maxmemory_policy"] != "noeviction":
        said = f"{said}, maxmemory-policy {told['maxmemory_policy']}"
        return Finding("broker", "odd", said, "set maxmemory-policy noeviction: else full memory loses jobs")
    return Finding("broker", "fine", said)


def _clock(settings: Settings) -> Finding:
    ledger = _ledger(settings)
    apart = ledger.now() - time.time()
    said = f"{abs(apart):.1f} s {'behind' if apart > 0 else 'ahead of'} the broker's"
    if abs(apart) > CLOCK_S:
        return Finding("clock", "odd", said, "let NTP set it: S3 services refuse 15 minutes")
    return Finding("clock", "fine", said)


def _store(settings: Settings) -> Finding:
    store, key, content = (
        open_store(settings.store_address, settings),
        f"doctor/{secrets.token_hex(8)}",
        b"goods" * 1000,
    )
    began = time.monotonic()
    store.put(key, content)
    same = store.get(key) == content
    store.delete(key)
    if not same:
        raise FarmUnreachable(f"{settings.store_address} hands out something else than what was put")
    return Finding(
        "store", "fine", f"{settings.store_address}, {1000 * (time.monotonic() - began):.0f} ms to write and read"
    )


def _workers(settings: Settings) -> Finding:
    _ledger(settings).redis.ping()
    answers = make_app(settings).control.inspect(timeout=ANSWER_S).active_queues() or {}
    listening = Counter(queue["name"] for queues in answers.values() for queue in queues)
    wanted = sorted({desk.queue for desk in DESKS.values()})
    said = ", ".join(f"{listening[queue]} {queue}" for queue in wanted)
    if missing := [queue for queue in wanted if not listening[queue]]:
        return Finding("workers", "broken", said, " and ".join(f"farm worker {queue}" for queue in missing))
    return Finding("workers", "fine", said)


def _weights(settings: Settings) -> Finding:
    from farm.model.presets import preset
    from farm.model.weights.check import check

    model = preset(settings.preset)
    parts = check(model.folder(settings.weights_folder), model)
    size = sum(size for _, size in parts.values()) / 1e6
    return Finding("weights", "fine", f"{model.name}, {size:,.0f} MB, every tensor by name and shape")


def _gpu(settings: Settings) -> Finding:
    import torch

    if not torch.cuda.is_available():
        said = f"none that torch {torch.__version__} can use; FARM_DEVICE is {settings.device}"
        return Finding("gpu", "odd", said, "fine for the miniature and for cpu workers")
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
    return Finding("gpu", "fine", f"{torch.cuda.get_device_name()}, {free:.0f} of {total:.0f} GiB free")


def _ffmpeg(_: Settings) -> Finding:
    import av
    import imageio_ffmpeg

    if "libx264" not in av.codecs_available:
        return Finding("ffmpeg", "broken", f"PyAV {av.__version__} without libx264", "pip install av, from a wheel")
    return Finding("ffmpeg", "fine", f"{imageio_ffmpeg.get_ffmpeg_version()}, PyAV {av.__version__}")


def _disk(settings: Settings) -> Finding:
    places = {"temporary": Path(tempfile.gettempdir()), "home": settings.folder}
    if settings.store_address.startswith("file:"):
        places["store"] = Path(unquote(urlsplit(settings.store_address).path))
    free = {name: shutil.disk_usage(_existing(path)).free / 1e9 for name, path in places.items()}
    said = ", ".join(f"{name} {size:.0f} GB free" for name, size in free.items())
    least = min(free.values())
    if least > SCARCE_GB:
        return Finding("disk", "fine", said)
    return Finding("disk", "odd" if least > TOO_LITTLE_GB else "broken", said, "farm gc --dry-run says what could go")


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _ledger(settings: Settings) -> RedisLedger:
    ledger = open_registry(settings.broker_address).ledger
    if not isinstance(ledger, RedisLedger):
        raise FarmUnreachable("a broker in memory is for one process alone")
    return ledger


LOOKS: dict[str, tuple[Look, str]] = {
    "broker": (_broker, "farm up starts one here; FARM_BROKER_URL names another"),
    "clock": (_clock, "the broker has to answer first"),
    "store": (_store, "FARM_STORE_URL and the FARM_S3_ settings say where it is"),
    "workers": (_workers, "the broker has to answer first"),
    "weights": (_weights, "farm weights pull, then convert; FARM_WEIGHTS says where they lie"),
    "gpu": (_gpu, "nvidia-smi says what the driver sees"),
    "ffmpeg": (_ffmpeg, "pip install av imageio-ffmpeg, from wheels"),
    "disk": (_disk, ""),
}
"""How each thing is looked at, and what to do if that fails."""
