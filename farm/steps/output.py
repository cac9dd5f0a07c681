"""Where a caller wants his video besides the farm's store: a bucket, a folder, or in the result itself."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import unquote, urlsplit

from farm.engine.step_context import StepContext
from farm.errors import InvalidInput, UploadFailed
from farm.job import OutputConfig
from farm.settings import Settings
from farm.store import Store


def open_outlet(wanted: OutputConfig | None, settings: Settings) -> Store | None:
    """The bucket or folder that a request names; None if it names none. Nothing is contacted yet.

    InvalidInput for one that the farm's operator does not allow.
    """
    if wanted is None:
        return None
    if wanted.store == "s3":
        return _bucket(wanted, settings)
    if wanted.store == "volume":
        return _folder(wanted, settings)
    if not settings.output_inline_bytes:
        raise InvalidInput("output_config.store: got 'inline'; this farm does not (FARM_OUTPUT_INLINE_BYTES is 0)")
    return None


def handed_out(ctx: StepContext, outlet: Store | None, key: str, path: Path) -> str:
    """The URL by which the caller finds a file that the store has: there, or in the outlet, to which it is copied."""
    if outlet is None:
        return ctx.store.url(key)
    name = f"{stem(ctx)}{path.suffix}"
    outlet.put(name, path)
    return outlet.url(name)


def stem(ctx: StepContext) -> str:
    """infitalk_{size}_{steps}_seed{seed}_{job_id}, which no other job's files are called."""
    request = ctx.request
    return f"infitalk_{request.size}_{request.sample_steps}_seed{request.base_seed}_{ctx.job_id}"


def carried(ctx: StepContext, key: str, path: Path) -> str | None:
    """The video in base64 if the request wants it in its result; UploadFailed if it is too large for that."""
    wanted, most = ctx.request.output_config, ctx.settings.output_inline_bytes
    if wanted is None or wanted.store != "inline":
        return None
    size = path.stat().st_size
    if size > most:
        raise UploadFailed(
            f"output_config.store: the video has {size} bytes; a result carries at most {most} "
            f"(FARM_OUTPUT_INLINE_BYTES); it lies at {ctx.store.url(key)}",
            retryable=False,
        )
    return base64.b64encode(path.read_bytes()).decode()


def _bucket(wanted: OutputConfig, settings: Settings) -> Store:
    from farm.store.s3 import S3Store

    bucket, own = wanted.bucket or "", urlsplit(settings.store_address)
    if bucket not in settings.output_buckets:
        allowed = ", ".join(settings.output_buckets) or "none (FARM_OUTPUT_BUCKETS is not set)"
        raise InvalidInput(f"output_config.bucket: got {bucket!r}; buckets of this farm: {allowed}")
    if (own.scheme, own.netloc) == ("s3", bucket):
        raise InvalidInput(f"output_config.bucket: got {bucket!r}; the farm's own store lies there")
    region = {"s3_region": wanted.region} if wanted.region else {}
    return S3Store(bucket, wanted.prefix or "", settings.model_copy(update=region))


def _folder(wanted: OutputConfig, settings: Settings) -> Store:
    from farm.store.local import LocalStore

    if settings.output_folder is None:
        raise InvalidInput("output_config.store: got 'volume'; this farm has none (FARM_OUTPUT_FOLDER is not set)")
    root = settings.output_folder.expanduser().resolve()
    folder = (root / (wanted.prefix or "")).resolve()  # where links lead
    if not folder.is_relative_to(root) or _holds_goods(folder, settings):
        raise InvalidInput(f"output_config.prefix: got {wanted.prefix!r}; it leads out of the folder for results")
    return LocalStore(folder, retry_s=settings.store_retry_s)


def _holds_goods(folder: Path, settings: Settings) -> bool:
    """Whether a folder belongs to the farm's own store."""
    own = urlsplit(settings.store_address)
    return own.scheme == "file" and folder.is_relative_to(Path(unquote(own.path)).resolve())
