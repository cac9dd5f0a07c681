"""Where the caller wants the video besides the farm's store: a bucket, a folder, or the result."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import unquote, urlsplit

from farm.engine.step_context import StepContext
from farm.errors import InvalidInput, UploadFailed
from farm.job import OutputConfig
from farm.settings import Settings
from farm.store import Store


def open_destination(config: OutputConfig | None, settings: Settings) -> Store | None:
    """The bucket or folder that a request names; None if it names none. Nothing is contacted yet.

    Raises InvalidInput for one that the operator does not allow.
    """
    if config is None:
        return None
    if config.store == "s3":
        return _bucket(config, settings)
    if config.store == "volume":
        return _folder(config, settings)
    if not settings.output_inline_bytes:
        raise InvalidInput(
            "output_config.store: got 'inline'; inline results are disabled on this farm "
            "(FARM_OUTPUT_INLINE_BYTES is 0)"
        )
    return None


def publish_artifact(ctx: StepContext, destination: Store | None, key: str, path: Path) -> str:
    """The URL of a stored file: in the store, or in the destination, to which it is copied."""
    if destination is None:
        return ctx.store.url(key)
    name = f"{file_stem(ctx)}{path.suffix}"
    destination.put(name, path)
    return destination.url(name)


def file_stem(ctx: StepContext) -> str:
    """infitalk_{size}_{steps}_seed{seed}_{job_id}: unique among all jobs.

    The size has the name of the model that ran: miniature-480 is no infinitetalk-480.
    """
    request = ctx.request
    model = request.model.partition("-")[0]
    pixels = request.size.partition("-")[2]
    steps, seed = request.sample_steps, request.base_seed
    return f"infitalk_{model}-{pixels}_{steps}_seed{seed}_{ctx.job_id}"


def inline_video(ctx: StepContext, key: str, path: Path) -> str | None:
    """The video in base64 if the request wants it so; UploadFailed if it is too large."""
    config = ctx.request.output_config
    if config is None or config.store != "inline":
        return None
    max_bytes = ctx.settings.output_inline_bytes
    size = path.stat().st_size
    if size > max_bytes:
        raise UploadFailed(
            f"output_config.store: the video has {size} bytes; a result holds at most {max_bytes} "
            f"(FARM_OUTPUT_INLINE_BYTES); the store has it as {key}",
            retryable=False,
        )
    return base64.b64encode(path.read_bytes()).decode()


def _bucket(config: OutputConfig, settings: Settings) -> Store:
    from farm.store.s3 import S3Store

    bucket = config.bucket or ""
    if bucket not in settings.output_buckets:
        allowed = ", ".join(settings.output_buckets) or "none (FARM_OUTPUT_BUCKETS is not set)"
        raise InvalidInput(f"output_config.bucket: got {bucket!r}; buckets of this farm: {allowed}")
    own = urlsplit(settings.store_address)
    if (own.scheme, own.netloc) == ("s3", bucket):
        raise InvalidInput(
            f"output_config.bucket: got {bucket!r}; it is the bucket of the farm's own store"
        )
    region = {"s3_region": config.region} if config.region else {}
    return S3Store(bucket, config.prefix or "", settings.model_copy(update=region))


def _folder(config: OutputConfig, settings: Settings) -> Store:
    from farm.store.local import LocalStore

    if settings.output_folder is None:
        raise InvalidInput(
            "output_config.store: got 'volume'; this farm has none (FARM_OUTPUT_FOLDER is not set)"
        )
    root = settings.output_folder.expanduser().resolve()
    try:
        folder = (root / (config.prefix or "")).resolve()  # with links followed
    except (OSError, RuntimeError) as error:
        raise InvalidInput(
            f"output_config.prefix: got {config.prefix!r}; it names a link that leads nowhere"
        ) from error
    if not folder.is_relative_to(root) or _is_inside_store(folder, settings):
        raise InvalidInput(
            f"output_config.prefix: got {config.prefix!r}; it leads out of the folder for results"
        )
    return LocalStore(folder, retry_s=settings.store_retry_s)


def _is_inside_store(folder: Path, settings: Settings) -> bool:
    own = urlsplit(settings.store_address)
    return own.scheme == "file" and folder.is_relative_to(Path(unquote(own.path)).resolve())
