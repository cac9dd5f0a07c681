"""A store in a bucket of any S3 service, through the minio client.

Writes to S3 are atomic, so nothing is renamed. Each object has the SHA-256 of its bytes as
metadata, which every service keeps and which holds end to end; an ETag is not a checksum if an
object was uploaded in parts or is encrypted.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from minio.error import S3Error
from minio.helpers import check_bucket_name
from urllib3 import BaseHTTPResponse

from farm.errors import FarmUnreachable, InvalidInput, UploadFailed
from farm.settings import Settings
from farm.store import check_key, is_key
from farm.store.keys import digest
from farm.store.service import Service, ServiceError
from farm.store.signed import Grants

PART_BYTES = 16 << 20
"""Larger files are uploaded in parts of this size, one by one: memory stays at about two parts."""

BLOCK_BYTES = 1 << 20
"""Objects are downloaded in blocks of this size."""

MAX_LINK_S = 604_800
"""S3 signs no URL that is valid for more than a week."""

CHECKSUM = "x-amz-meta-sha256"

Answer = TypeVar("Answer")


class S3Store:
    """Objects are in `bucket`, under `prefix` if it is not empty."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        """Raises InvalidInput for a bucket or prefix that is not valid, or for wrong settings."""
        try:
            check_bucket_name(bucket, strict=True)
        except ValueError as error:
            raise InvalidInput(f"FARM_STORE_URL: {error}; allowed: s3://bucket/prefix") from error
        if prefix and not is_key(prefix):
            allowed = "names separated by /"
            raise InvalidInput(f"FARM_STORE_URL: got the prefix {prefix!r}; allowed: {allowed}")
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._link_lifetime = timedelta(seconds=settings.s3_link_s)
        self._service = Service(settings)

    def put(self, key: str, source: Path | bytes) -> None:
        name = self._name(key)
        try:
            checksum = digest(source)
            self._service.call(lambda: self._send(name, source, checksum))
        except OSError as error:  # of the source; errors of the connection are not OSErrors
            reason = error.strerror or error
            raise UploadFailed(f"the store could not take {key}: {reason}") from error
        except ServiceError as error:
            message = f"the store {self} could not take {key}: {error}"
            raise UploadFailed(message, retryable=error.retryable) from error

    def get(self, key: str) -> bytes:
        return self._read(key, b"".join)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        length = stop - start
        return self._get(key, lambda response: response.data, offset=start, length=length)

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
            return self._call(key, lambda: self._service.client.stat_object(self.bucket, name).size)
        except KeyError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(self.written_at(prefix)))

    def written_at(self, prefix: str) -> dict[str, float]:
        def list_objects() -> dict[str, float]:
            objects = self._service.client.list_objects(
                self.bucket, prefix=self.prefix + prefix, recursive=True
            )
            # Web consoles create empty objects for folders.
            return {
                str(each.object_name).removeprefix(self.prefix): _seconds(each.last_modified)
                for each in objects
                if not each.is_dir
            }

        return self._call(f"the keys under {prefix!r}", list_objects)

    def delete(self, key: str) -> None:
        name = self._name(key)
        self._call(key, lambda: self._service.client.remove_object(self.bucket, name))

    def create_bucket(self) -> bool:
        """Creates the bucket; False if it is there already."""
        client = self._service.client

        def create() -> bool:
            if client.bucket_exists(self.bucket):
                return False
            client.make_bucket(self.bucket)
            return True

        return self._call(f"the bucket {self.bucket}", create)

    def url(self, key: str) -> str:
        """A presigned URL, valid for FARM_S3_LINK_S seconds; the service is not contacted."""
        return self._service.signer.presigned_get_object(
            self.bucket, self._name(key), expires=self._link_lifetime
        )

    def link(self, key: str, *, page: str) -> str:
        """A presigned URL, since a relative link has no signature."""
        return self.url(key)

    def grant(self, *, reads: Iterable[str], writes: Iterable[str], seconds: int) -> Grants:
        """Signed URLs for these keys, valid for `seconds`; the service is not contacted."""
        lifetime = timedelta(seconds=seconds)
        signer = self._service.signer
        return Grants(
            reads={
                key: signer.presigned_get_object(self.bucket, self._name(key), expires=lifetime)
                for key in reads
            },
            writes={
                key: signer.presigned_put_object(self.bucket, self._name(key), expires=lifetime)
                for key in writes
            },
        )

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _send(self, name: str, source: Path | bytes, checksum: str) -> None:
        if isinstance(source, bytes):
            length = len(source)
            content: BinaryIO = BytesIO(source)
        else:
            length = source.stat().st_size
            content = source.open("rb")
        with content as stream:
            result = self._service.client.put_object(
                self.bucket,
                name,
                stream,
                length,
                content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
                metadata={"sha256": checksum},
                part_size=PART_BYTES,
                num_parallel_uploads=1,
            )
        # The response to joining parts may be an error with status 200, which the client ignores.
        if not result.etag:
            raise ServiceError("it did not confirm that it joined the parts", retryable=True)

    def _read(self, key: str, consume: Callable[[Iterable[bytes]], Answer]) -> Answer:
        """The result of `consume` on an object's blocks; a retry calls it with all blocks again."""
        return self._get(key, lambda response: consume(_blocks(response)))

    def _get(
        self,
        key: str,
        consume: Callable[[BaseHTTPResponse], Answer],
        *,
        offset: int = 0,
        length: int = 0,
    ) -> Answer:
        """The result of `consume` on the response that has an object, or some bytes of it."""
        name = self._name(key)

        def read() -> Answer:
            client = self._service.client
            response = client.get_object(self.bucket, name, offset=offset, length=length)
            try:
                return consume(response)
            finally:
                response.close()
                response.release_conn()

        return self._call(key, read)

    def _call(self, what: str, request: Callable[[], Answer]) -> Answer:
        """The result of a request about `what`; KeyError if there is no such object.

        Raises FarmUnreachable if the service does not answer.
        """
        try:
            return self._service.call(request)
        except ServiceError as error:
            if isinstance(error.__cause__, S3Error) and error.__cause__.code == "NoSuchKey":
                raise KeyError(what) from None
            message = f"the store {self} did not answer for {what}: {error}"
            raise FarmUnreachable(message, retryable=error.retryable) from error


def _seconds(written_at: datetime | None) -> float:
    """Since 1970; listings of S3 have a time for every object."""
    if written_at is None:
        raise ServiceError("it listed an object without a time", retryable=False)
    return written_at.timestamp()


def _blocks(response: BaseHTTPResponse) -> Iterator[bytes]:
    """A body in blocks; ServiceError behind the last one if they are not what was put."""
    hashed = hashlib.sha256()
    for block in response.stream(BLOCK_BYTES):
        hashed.update(block)
        yield block
    expected = response.headers.get(CHECKSUM)
    # Objects that other programs stored have no checksum.
    if expected not in (None, hashed.hexdigest()):
        message = f"the SHA-256 of the download is {hashed.hexdigest()}, expected {expected}"
        raise ServiceError(message, retryable=True)


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(blocks)
