"""Checks of everything that a farm needs from this machine, each with its remedy."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from farm.engine.context import open_context
from farm.engine.identity import mismatch, stored_id
from farm.errors import FarmError, FarmUnreachable, how_to_install
from farm.estimate import in_words
from farm.presets import preset
from farm.queue.brokers import open_broker
from farm.queue.brokers.broker import BrokerState
from farm.queue.brokers.redis import RedisBroker, server_version
from farm.queue.dead_letters import count_dead_letters, require_redis
from farm.registry import farm_registry
from farm.route import Queue
from farm.settings import Settings
from farm.steps.gpus import device_of, gpus_fault
from farm.store import open_store

MAX_CLOCK_SKEW_S = 60.0
"""Clocks that differ by more deserve a warning; an S3 service refuses 15 minutes."""

STANDSTILL_S = 60.0
LATE_S = 1800.0
"""As the alert FarmQueueLatencyHigh."""

LOW_DISK_GB = 10.0
FULL_DISK_GB = 1.0


@dataclass(frozen=True)
class Finding:
    """The result of one check: `warning` if the farm works without it. With a remedy unless it is
    ok, or has an earlier one's reason.
    """

    check: str
    status: Literal["ok", "warning", "error"]
    message: str
    remedy: str = ""


Check = Callable[[Settings], Finding]


def run_checks(settings: Settings, *, deep: bool = False) -> Iterator[Finding]:
    """One finding for each check, whatever another one raises.

    `deep` ones load torch, which takes longer than all others together.
    """
    settings = settings.model_copy(update={"store_retry_s": 0.0})
    first: dict[str, str] = {}
    for name, (check, remedy) in (CHECKS | DEEP_CHECKS if deep else CHECKS).items():
        try:
            yield check(settings)
        except FarmError as error:
            cause = first.setdefault(error.message, name)
            if cause == name:
                yield Finding(name, "error", error.message, remedy)
            else:
                yield Finding(name, "error", f"not known, for the reason of {cause}")
        except ImportError as error:
            message = f"{error.name} is not installed here"
            yield Finding(name, "warning", message, how_to_install("worker"))
        except Exception as error:  # a driver's, for instance
            yield Finding(name, "error", f"{type(error).__name__}: {error}", remedy)


def _check_broker(settings: Settings) -> Finding:
    broker = open_broker(settings)
    start = time.monotonic()
    version = broker.version()
    message = f"{version}, {1000 * (time.monotonic() - start):.0f} ms"
    try:
        if isinstance(broker, RedisBroker):
            return _redis_finding("broker", broker.info(), message)
        broker.declare_queues()
        return _rabbitmq_finding(broker.state(), message)
    finally:
        broker.close()


def _rabbitmq_finding(state: BrokerState, message: str) -> Finding:
    alarmed = [resource for resource, on in state.alarms.items() if on]
    if alarmed:
        remedy = "free it, or raise vm_memory_high_watermark, or lower disk_free_limit"
        message = f"{message}, takes no messages: too little {' and '.join(alarmed)}"
        return Finding("broker", "error", message, remedy)
    if state.problem:
        remedy = "enable RabbitMQ's management plugin, and give the user the tag monitoring"
        return Finding("broker", "warning", f"{message}; {state.problem}", remedy)
    if not state.alarms:
        message += "; its alarms and messages in hand are not known without FARM_BROKER_API"
    return Finding("broker", "ok", message)


def _check_registry(settings: Settings) -> Finding:
    if not settings.has_own_registry:
        return Finding("registry", "ok", "the broker's")
    with require_redis(farm_registry(settings)).redis as client:
        start = time.monotonic()
        info: dict[str, Any] = client.info("everything")
        took_ms = 1000 * (time.monotonic() - start)
    return _redis_finding("registry", info, f"{server_version(info)}, {took_ms:.0f} ms")


def _redis_finding(check: str, info: Mapping[str, Any], message: str) -> Finding:
    """The finding about a Redis with these fields of INFO; `message` says which one it is."""
    if not info["aof_enabled"]:
        return Finding(
            check,
            "warning",
            f"{message}, without an append-only file",
            "set appendonly yes: else a crash loses jobs",
        )
    if info["evicted_keys"]:
        return Finding(
            check,
            "error",
            f"{message}, has evicted {info['evicted_keys']} keys",
            "set maxmemory-policy noeviction; farm recover enters again what is lost",
        )
    if info["maxmemory_policy"] != "noeviction":
        return Finding(
            check,
            "warning",
            f"{message}, maxmemory-policy {info['maxmemory_policy']}",
            "set maxmemory-policy noeviction: else full memory loses jobs",
        )
    return Finding(check, "ok", message)


def _check_clock(settings: Settings) -> Finding:
    registry = farm_registry(settings)
    require_redis(registry)
    skew_s = registry.wall_time() - time.time()
    relation = "behind" if skew_s > 0 else "ahead of"
    message = f"{abs(skew_s):.1f} s {relation} the registry's"
    if abs(skew_s) > MAX_CLOCK_SKEW_S:
        remedy = "set the clock by NTP: S3 services refuse 15 minutes"
        return Finding("clock", "warning", message, remedy)
    return Finding("clock", "ok", message)


def _check_jobs(settings: Settings) -> Finding:
    registry = farm_registry(settings)
    require_redis(registry)
    incomplete = registry.entries.incomplete()
    if not incomplete:
        return Finding("jobs", "ok", f"{len(registry.jobs.live())} live, none incomplete")
    message = f"{len(incomplete)} of which the registry has lost a part, such as {incomplete[0]}"
    return Finding("jobs", "error", message, "farm recover enters again what is lost")


def _check_reaper(settings: Settings) -> Finding:
    registry = farm_registry(settings)
    require_redis(registry)
    still = registry.jobs.standing_still(for_s=STANDSTILL_S)
    if not still:
        return Finding("reaper", "ok", "no job stands still")
    message = f"{len(still)} jobs stand still for over {STANDSTILL_S:.0f} s, such as {still[0]}"
    remedy = "farm worker cpu runs a reaper; if one is up, look for reap_failed in its log"
    return Finding("reaper", "error", message, remedy)


def _check_queues(settings: Settings) -> Finding:
    registry = farm_registry(settings)
    dead = count_dead_letters(registry)
    if dead:
        message = f"{dead} messages that no step could be read from"
        return Finding("queues", "warning", message, "see FarmDeadLetters in the runbook")
    late = len(registry.steps.undelivered(for_s=LATE_S))
    if late:
        message = f"{late} messages wait for over {in_words(LATE_S)}"
        return Finding("queues", "warning", message, "more workers; farm jobs lists what waits")
    return Finding("queues", "ok", f"no message waits for over {in_words(LATE_S)}")


def _check_store(settings: Settings) -> Finding:
    store = open_store(settings.store_address, settings)
    key = f"doctor/{secrets.token_hex(8)}"
    content = secrets.token_bytes(5000)
    start = time.monotonic()
    store.put(key, content)
    is_equal = store.get(key) == content
    store.delete(key)
    if not is_equal:
        raise FarmUnreachable(f"{settings.store_address} returned other bytes than were written")
    took_ms = 1000 * (time.monotonic() - start)
    message = f"{settings.store_address}, {took_ms:.0f} ms to write and read"
    return Finding("store", "ok", message)


def _check_identity(settings: Settings) -> Finding:
    ctx = open_context(settings)
    entered = ctx.registry.identity.read()
    stored = stored_id(ctx.store)
    if entered is None or entered.pending_until is not None:
        state = "new" if stored is None else "its id will be entered in the registry again"
        return Finding("identity", "ok", f"{settings.name}, {state}")
    if entered.id != stored:
        raise mismatch(settings.name, entered.id, stored)
    return Finding("identity", "ok", f"{settings.name}, {stored} in store and registry")


NEEDED: tuple[Queue, ...] = ("cpu", "gpu", "downloads")
"""Queues in which jobs stand still without a worker."""


def _check_workers(settings: Settings) -> Finding:
    registry = farm_registry(settings)
    require_redis(registry)
    consumers = registry.workers.count_alive()
    message = ", ".join(f"{consumers[queue]} {queue}" for queue in NEEDED)
    missing = [queue for queue in NEEDED if not consumers[queue]]
    if missing:
        # A cpu worker starts the one that downloads.
        to_start = [queue for queue in missing if queue != "downloads" or "cpu" not in missing]
        remedy = " and ".join(f"farm worker {queue}" for queue in to_start)
        if _is_up_here(settings):
            remedy = "wait: `farm up` is starting them; if one ends again and again, it says why"
        return Finding("workers", "error", message, remedy)
    if not consumers["gpu-local"]:
        message += ", all gpu workers those of bridges; jobs with placement local wait"
        return Finding("workers", "warning", message, "farm worker gpu")
    return Finding("workers", "ok", message)


def _check_models(settings: Settings) -> Finding:
    registry = farm_registry(settings)
    require_redis(registry)
    models = map(preset, registry.workers.models() or settings.presets)
    message = "; ".join(f"{each.name} for {each.good_for}" for each in models)
    cold = registry.workers.cold()
    if not cold:
        return Finding("models", "ok", message)
    _, host, pid = cold[0].split(" ")
    gpus = registry.workers.count_own_gpus()
    count = f"{len(cold)} of {gpus} gpu workers"
    message = f"{count} could not load their model, such as {pid} on {host}"
    remedy = "warm_up_failed in its log says why; `farm logs` shows that of `farm up`"
    return Finding("models", "warning" if len(cold) < gpus else "error", message, remedy)


def _is_up_here(settings: Settings) -> bool:
    """Whether `farm up` runs in this home, perhaps since a moment ago."""
    try:
        with settings.lock_file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no farm has run here yet
        return False
    return False


def _glance_at_weights(settings: Settings) -> Finding:
    found = []
    for model in map(preset, settings.presets):
        folder = model.folder(settings.weights_folder)
        missing = model.missing_parts(folder)
        if missing:
            message = f"{folder} has no {', '.join(missing)}"
            return Finding("weights", "error", message, model.remedy)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        found.append(f"{model.name}, {size / 1e6:,.0f} MB")
    return Finding("weights", "ok", f"{'; '.join(found)}; --deep compares every tensor")


def _glance_at_gpu(settings: Settings) -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        message = f"none of NVIDIA's (no nvidia-smi); FARM_DEVICE is {settings.device}"
        return Finding("gpu", "warning", message, "fine for the miniature and for cpu workers")
    command = [program, "--query-gpu=name,memory.free,memory.total", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    message = "; ".join(asked.stdout.splitlines()) or asked.stderr.strip()
    if asked.returncode:
        return Finding("gpu", "error", message, GPU_REMEDY)
    return Finding("gpu", "ok", f"{message}; --deep asks torch")


def _check_weights(settings: Settings) -> Finding:
    from farm.model.weights.check import check
    from farm.model.weights.fingerprint import Digests, checkpoint_fingerprint

    found = []
    for model in map(preset, settings.presets):
        folder = model.folder(settings.weights_folder)
        parts = check(folder, model)
        fingerprint = checkpoint_fingerprint(folder, Digests(settings.digests_folder))
        megabytes = sum(size for _, size in parts.values()) / 1e6
        found.append(f"{model.name} {fingerprint}, {megabytes:,.0f} MB")
    return Finding("weights", "ok", f"{'; '.join(found)}; every tensor by name and shape")


def _check_gpu(settings: Settings) -> Finding:
    import torch

    for model in map(preset, settings.presets):
        if fault := gpus_fault(settings, model):
            return Finding("gpu", "error", fault, "FARM_GPUS=1 makes chunks on one card")
    if not torch.cuda.is_available():
        message = f"none that torch {torch.__version__} can use; FARM_DEVICE is {settings.device}"
        return Finding("gpu", "warning", message, "fine for the miniature and for cpu workers")
    free_gib, total_gib = (size / 2**30 for size in torch.cuda.mem_get_info())
    name = torch.cuda.get_device_name()
    message = f"{name}, {free_gib:.0f} of {total_gib:.0f} GiB free"
    found = torch.cuda.device_count()
    if found > 1:
        message += f"; FARM_GPUS is {settings.gpus} of the {found} that torch finds"
    return Finding("gpu", "ok", message)


def _check_attention(settings: Settings) -> Finding:
    import torch

    from farm.model.attention import AUTO, EXACT, OWN, backend_fault, random_tokens

    device = device_of(settings)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    tokens = random_tokens(device, dtype, heads=40, head_dim=128)
    faults = {name: backend_fault(name, tokens) for name in dict.fromkeys((*EXACT, *OWN))}
    usable = ", ".join(name for name, fault in faults.items() if fault is None)
    others = "; ".join(f"{name}: {_line(fault)}" for name, fault in faults.items() if fault)
    message = f"usable: {usable}; not usable: {others or 'none'}"
    if settings.attention != AUTO and faults.get(settings.attention):
        return Finding("attention", "error", message, "FARM_ATTENTION=auto takes the fastest")
    return Finding("attention", "ok", message)


def _line(text: str) -> str:
    """The first line, cut to a readable length."""
    return text.splitlines()[0][:100]


def _check_ffmpeg(_: Settings) -> Finding:
    import av
    import imageio_ffmpeg

    if "libx264" not in av.codecs_available:
        message = f"PyAV {av.__version__} without libx264"
        return Finding("ffmpeg", "error", message, "pip install av, from a wheel")
    message = f"{imageio_ffmpeg.get_ffmpeg_version()}, PyAV {av.__version__}"
    return Finding("ffmpeg", "ok", message)


def _check_disk(settings: Settings) -> Finding:
    folders = {"temporary": Path(tempfile.gettempdir()), "home": settings.folder}
    if settings.store_address.startswith("file:"):
        folders["store"] = Path(unquote(urlsplit(settings.store_address).path))
    free_gb = {
        name: shutil.disk_usage(_existing(path)).free / 1e9 for name, path in folders.items()
    }
    message = ", ".join(f"{name} {size:.0f} GB free" for name, size in free_gb.items())
    least_gb = min(free_gb.values())
    if least_gb > LOW_DISK_GB:
        return Finding("disk", "ok", message)
    remedy = "farm gc --dry-run lists what can be removed"
    return Finding("disk", "warning" if least_gb > FULL_DISK_GB else "error", message, remedy)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


WEIGHTS_REMEDY = "farm weights pull, then convert; FARM_WEIGHTS is their folder"
GPU_REMEDY = "nvidia-smi shows what the driver sees"

CHECKS: dict[str, tuple[Check, str]] = {
    "broker": (_check_broker, "farm up starts one here; FARM_BROKER_URL names another"),
    "registry": (_check_registry, "FARM_REGISTRY_URL names it; unset, it is the broker"),
    "clock": (_check_clock, "the registry has to answer first"),
    "jobs": (_check_jobs, "the registry has to answer first"),
    "reaper": (_check_reaper, "the registry has to answer first"),
    "queues": (_check_queues, "the registry has to answer first"),
    "store": (_check_store, "FARM_STORE_URL and the FARM_S3_ settings say where it is"),
    "identity": (_check_identity, "see docs/operations/several-farms.md"),
    "workers": (_check_workers, "the registry has to answer first"),
    "models": (_check_models, "the registry has to answer first"),
    "weights": (_glance_at_weights, WEIGHTS_REMEDY),
    "gpu": (_glance_at_gpu, GPU_REMEDY),
    "ffmpeg": (_check_ffmpeg, "pip install av imageio-ffmpeg, from wheels"),
    "disk": (_check_disk, ""),
}
"""Each check, and the remedy if it raises."""

DEEP_CHECKS: dict[str, tuple[Check, str]] = {
    "weights": (_check_weights, WEIGHTS_REMEDY),
    "gpu": (_check_gpu, GPU_REMEDY),
    "attention": (_check_attention, "FARM_ATTENTION=native works everywhere"),
}
"""Those that load torch; they replace others of their name."""
