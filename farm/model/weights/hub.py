"""Single files of the Hugging Face hub: what they are, and their transfer into its cache here.

The hub's own library resolves revisions and handles tokens, mirrors (HF_ENDPOINT) and the cache
(HF_HOME). Files are transferred here, because since version 2 the library discards an unfinished
file when the process ends, and a shard is 10 GB. Finished files are handed to the library, so that
other programs find them in the cache too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farm.errors import DownloadFailed

PrintLine = Callable[[str], None]

COMMIT = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Remote:
    """A file of the hub at one commit, and where its content goes in the cache."""

    repository: str
    commit: str
    file: str
    url: str
    etag: str
    """The SHA-256 of a large file."""
    size: int
    blob: Path
    sha256: str | None
    """What the content has to be, if that is known."""

    @property
    def partial_blob(self) -> Path:
        """The bytes that have arrived so far."""
        return self.blob.with_name(f"{self.etag}.incomplete")

    @property
    def missing_bytes(self) -> int:
        """The bytes that are still to be downloaded."""
        if self.is_cached:
            return 0
        arrived = self.partial_blob.stat().st_size if self.partial_blob.exists() else 0
        return max(self.size - arrived, 0)

    @property
    def is_cached(self) -> bool:
        """Whether the file is complete; without symbolic links the library keeps no blobs."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file, revision=self.commit)
        return self.blob.exists() or isinstance(found, str)


@dataclass(frozen=True)
class Fetched:
    """A file of the hub on this machine."""

    path: Path
    sha256: str


def commit_of(repository: str, revision: str) -> str:
    """The commit that a revision of a repository means now."""
    from huggingface_hub import HfApi

    with _translate_hub_errors(f"{repository} at {revision}"):
        commit = HfApi().model_info(repository, revision=revision).sha
    if not commit:
        raise DownloadFailed(f"{repository}: the hub names no commit for {revision}")
    if COMMIT.fullmatch(revision) and commit != revision:
        message = f"{repository}: the hub answers with {commit} instead of {revision}"
        raise DownloadFailed(message, retryable=False)
    return commit


def remote_file(repository: str, commit: str, file: str, sha256: str | None) -> Remote:
    """A file as the hub describes it; refused if it is not the one of that SHA-256."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    url = hf_hub_url(repository, file, revision=commit)
    with _translate_hub_errors(f"{file} of {repository}"):
        metadata = get_hf_file_metadata(url)
    etag = metadata.etag
    size = metadata.size
    if etag is None:
        raise DownloadFailed(f"{file} of {repository}: the server sends no ETag")
    if size is None:
        raise DownloadFailed(f"{file} of {repository}: the server sends no size")
    name = repo_folder_name(repo_id=repository, repo_type="model")
    blob = cache_folder() / name / "blobs" / etag
    remote = Remote(repository, commit, file, url, etag, size, blob, sha256)
    if SHA256.fullmatch(etag):
        _check_digest(remote, etag, "the server's file")
    return remote


def cache_folder() -> Path:
    """Where the hub's library keeps the files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def fetch(remote: Remote, print_line: PrintLine | None = None) -> Fetched:
    """The file in the cache's snapshot of its commit, downloaded if it is missing."""
    from huggingface_hub import hf_hub_download

    with _translate_hub_errors(f"{remote.file} of {remote.repository}"):
        if not remote.is_cached:
            if print_line:
                print_line(f"{remote.repository} {remote.file} ({remote.size / 1e9:.2f} GB)")
            _transfer(remote)
        path = Path(hf_hub_download(remote.repository, remote.file, revision=remote.commit))
        fetched = Fetched(path, _sha256(path))
    _check_digest(remote, fetched.sha256, str(path))
    return fetched


def _check_digest(remote: Remote, found: str, subject: str) -> None:
    """Refuses content that is not what is known, locked or announced by the server."""
    announced = remote.etag if SHA256.fullmatch(remote.etag) else None
    for expected in (remote.sha256, announced):
        if expected not in (None, found):
            raise DownloadFailed(
                f"{remote.file} of {remote.repository} at {remote.commit}: {subject} has the "
                f"SHA-256 {found} instead of {expected}, and is not used",
                retryable=False,
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transfer(remote: Remote) -> None:
    """Downloads the rest of a file; of two processes that want the same one, the second waits."""
    from huggingface_hub import get_token
    from huggingface_hub.file_download import http_get

    # Compressed content could not be resumed at a byte.
    headers = {"Accept-Encoding": "identity"}
    token = get_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    remote.blob.parent.mkdir(parents=True, exist_ok=True)
    with remote.partial_blob.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if remote.blob.exists():
            remote.partial_blob.unlink(missing_ok=True)
            return
        arrived = file.seek(0, os.SEEK_END)
        if arrived > remote.size:
            arrived = file.truncate(0)
        http_get(
            remote.url,
            file,
            resume_size=arrived,
            headers=headers,
            expected_size=remote.size,
            displayed_filename=remote.file,
        )
        file.flush()
        _check_content(remote)
        remote.partial_blob.replace(remote.blob)


def _check_content(remote: Remote) -> None:
    """Deletes and refuses a damaged file; of large files the ETag is the SHA-256."""
    if SHA256.fullmatch(remote.etag) and _sha256(remote.partial_blob) != remote.etag:
        remote.partial_blob.unlink()
        raise DownloadFailed(
            f"{remote.file} of {remote.repository} arrived damaged and was deleted; pull it again"
        )


@contextmanager
def _translate_hub_errors(subject: str) -> Iterator[None]:
    """Turns the hub's refusals and the network's failures into DownloadFailed with a remedy."""
    import httpx2
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    reasons: dict[type[Exception], str] = {
        GatedRepoError: "its terms have to be accepted on its page; then set HF_TOKEN to a token "
        "of that account",
        RepositoryNotFoundError: "there is no such repository, or it needs a token: set HF_TOKEN",
        RevisionNotFoundError: "there is no such revision",
        EntryNotFoundError: "there is no such file; try another --revision",
    }
    try:
        yield
    except tuple(reasons) as error:
        reason = next(text for kind, text in reasons.items() if isinstance(error, kind))
        raise DownloadFailed(f"{subject}: {reason}", retryable=False) from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise DownloadFailed(f"{subject}: {_remedied(error)}") from error


def _remedied(error: Exception) -> str:
    """What went wrong on the way, and what to do about it."""
    import httpx2
    from huggingface_hub import constants

    lines = str(error).strip().splitlines() or [type(error).__name__]
    resume = "pull again to resume where it stopped"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {cache_folder()} is full; make room there, and {resume}"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to ask the hub; unset it"
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return (
            f"{constants.ENDPOINT} cannot be reached ({lines[0]}); check the network, or set "
            f"HF_ENDPOINT to a mirror, and {resume}"
        )
    return f"{lines[0]}; {resume}"
