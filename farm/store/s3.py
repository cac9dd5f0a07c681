"""A store in a bucket of any S3 service, through the minio client.

A put is atomic there, so nothing is renamed. Each object carries the SHA-256 of its bytes as metadata, because that is
kept by every service and holds from end to end; an ETag is no checksum once an object was sent in parts or encrypted.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from minio.error import S3Error
from minio.helpers import check_bucket_name
from urllib3 import BaseHTTPResponse

from farm.errors import FarmUnreachable, InvalidInput, UploadFailed
from farm.settings import Settings
from farm.store import check_key, is_key
from farm.store.keys import digest
from farm.store.service import Service, ServiceError

PART_BYTES = 16 << 20
"""Larger files are sent in parts of this size, one after the other: memory stays at about two parts."""

BLOCK_BYTES = 1 << 20
CHECKSUM = "x-amz-meta-sha256"

Answer = TypeVar("Answer")


class S3Store:
    """Objects lie in `bucket`, under `prefix` if it is not empty."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        """InvalidInput for a name that no service would take, or for settings that lead to none."""
        try:
            check_bucket_name(bucket, strict=True)
        except ValueError as error:
            raise InvalidInput(f"FARM_STORE_URL: {error}; allowed: s3://bucket/prefix") from error
        if prefix and not is_key(prefix):
            raise InvalidInput(f"FARM_STORE_URL: got the prefix {prefix!r}; allowed: names with / between")
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._link = timedelta(seconds=settings.s3_link_s)
        self._service = Service(settings)

    def put(self, key: str, source: Path | bytes) -> None:
        name = self._name(key)
        try:
            checksum = digest(source)
            self._service.call(lambda: self._send(name, source, checksum))
        except OSError as error:  # of the source; those of the connection are no OSErrors
            raise UploadFailed(f"the store could not take {key}: {error.strerror or error}") from error
        except ServiceError as error:
            message = f"the store {self} could not take {key}: {error}"
            raise UploadFailed(message, retryable=error.retryable) from error

    def get(self, key: str) -> bytes:
        return self._read(key, b"".join)

    def fetch(self, key: str, path: Path) -> Path:
        part = path.with_name(f".part-{path.name}")
        try:
            self._read(key, lambda blocks: _write(part, blocks))
            return part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def size(self, key: str) -> int | None:
        name = self._name(key)
        try:
            return self._asked(key, lambda: self._service.client.stat_object(self.bucket, name).size)
        except KeyError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        def listed() -> list[str]:
            found = self._service.client.list_objects(self.bucket, prefix=self.prefix + prefix, recursive=True)
            return [str(each.object_name) for each in found if not each.is_dir]  # consoles leave empty folders

        return (name.removeprefix(self.prefix) for name in sorted(self._asked(f"the keys under {prefix!r}", listed)))

    def delete(self, key: str) -> None:
        name = self._name(key)
        self._asked(key, lambda: self._service.client.remove_object(self.bucket, name))

    def url(self, key: str) -> str:
        """A signed address that anybody can take the object from for FARM_S3_LINK_S seconds; made without asking."""
        return self._service.signer.presigned_get_object(self.bucket, self._name(key), expires=self._link)

    def link(self, key: str, *, page: str) -> str:
        """A signed address: a relative name would carry no signature."""
        return self.url(key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _send(self, name: str, source: Path | bytes, checksum: str) -> None:
        length = len(source) if isinstance(source, bytes) else source.stat().st_size
        with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            sent = self._service.client.put_object(
                self.bucket,
                name,
                stream,
                length,
                content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
                metadata={"sha256": checksum},
                part_size=PART_BYTES,
                num_parallel_uploads=1,
            )
        if not sent.etag:  # parts are joined under a 200 that may turn out to be an error, which the client passes over
            raise ServiceError("it did not say that it joined the parts", retryable=True)

    def _read(self, key: str, take: Callable[[Iterable[bytes]], Answer]) -> Answer:
        """What `take` makes of an object's blocks; it may be called again from the first block on."""
        name = self._name(key)

        def read() -> Answer:
            response = self._service.client.get_object(self.bucket, name)
            try:
                return take(_blocks(response))
            finally:
                response.close()
                response.release_conn()

        return self._asked(key, read)

    def _asked(self, what: str, call: Callable[[], Answer]) -> Answer:
        """What the service answers; KeyError if it has no such object, FarmUnreachable if it does not answer."""
        try:
            return self._service.call(call)
        except ServiceError as error:
            if isinstance(error.__cause__, S3Error) and error.__cause__.code == "NoSuchKey":
                raise KeyError(what) from None
            message = f"the store {self} did not answer for {what}: {error}"
            raise FarmUnreachable(message, retryable=error.retryable) from error


def _blocks(response: BaseHTTPResponse) -> Iterator[bytes]:
    """A body in blocks; Refusal behind the last one if they are not what was put."""
    hashed = hashlib.sha256()
    for block in response.stream(BLOCK_BYTES):
        hashed.update(block)
        yield block
    wanted = response.headers.get(CHECKSUM)  # none on what others have laid there
    if wanted not in (None, hashed.hexdigest()):
        raise ServiceError(f"what came has another SHA-256 than what was put, which is {wanted}", retryable=True)


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(blocks)
