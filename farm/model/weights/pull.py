"""Published weights from the hub into its cache on this machine, going on where an earlier attempt stopped.

The hub's own library resolves revisions and knows about tokens, mirrors (HF_ENDPOINT) and the cache (HF_HOME). The
transfer of a file is done here, because since version 2 it throws an unfinished file away when the process ends, and
a shard has 10 GB; finished files are handed to it, so that other programs find them in the cache too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farm.errors import DownloadFailed, InvalidInput
from farm.model.presets import Preset
from farm.model.weights.sources import (
    Repository,
    Source,
    pull_note,
    repositories,
    write_note,
)

Tell = Callable[[str], None]


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

    @property
    def unfinished(self) -> Path:
        """What has arrived of it so far."""
        return self.blob.with_name(f"{self.etag}.incomplete")

    @property
    def cached(self) -> bool:
        """Whether all of it is here; where there are no symbolic links, the library keeps no blobs."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file, revision=self.commit)
        return self.blob.exists() or isinstance(found, str)


def pull(
    preset: Preset,
    root: Path,
    *,
    speakers: str = "single",
    revisions: Mapping[str, str] | None = None,
    tell: Tell,
) -> dict[str, Source]:
    """What `convert` needs for a preset, on this machine; also noted under `root`, with the commits.

    `revisions` says, by repository, which branch, tag or commit to take. Raises InvalidInput for a repository that is
    not needed or a preset that needs none, and DownloadFailed; what has arrived by then is kept.
    """
    wanted = repositories(preset, speakers)
    chosen = {each.name: each.revision for each in wanted.values()} | dict(revisions or {})
    if unknown := sorted(chosen.keys() - {each.name for each in wanted.values()}):
        allowed = ", ".join(each.name for each in wanted.values())
        raise InvalidInput(f"revision: got one of {unknown[0]!r}; allowed: {allowed}")
    remotes = {role: _remotes(each, chosen[each.name]) for role, each in wanted.items()}
    coming = [remote for each in remotes.values() for remote in each if not remote.cached]
    _check_room(coming)
    tell(f"{sum(remote.size for remote in coming) / 1e9:.2f} GB in {len(coming)} files are to come")
    sources = {}
    for role, each in remotes.items():
        paths = [_fetched(remote, tell) for remote in each]
        repository = wanted[role].name
        sources[role] = Source(paths[0].parent, repository, chosen[repository], each[0].commit)
    write_note(pull_note(root, preset), sources)
    return sources


def _remotes(repository: Repository, revision: str) -> list[Remote]:
    """The needed files of a repository, all at the commit that the revision now means."""
    from huggingface_hub import HfApi

    with _asking(f"{repository.name} at {revision}"):
        commit = HfApi().model_info(repository.name, revision=revision).sha
    if not commit:
        raise DownloadFailed(f"{repository.name}: the hub names no commit for {revision}")
    return [_remote(repository.name, commit, file) for file in repository.files]


def _remote(repository: str, commit: str, file: str) -> Remote:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    url = hf_hub_url(repository, file, revision=commit)
    with _asking(f"{file} of {repository}"):
        about = get_hf_file_metadata(url)
    if about.etag is None or about.size is None:
        raise DownloadFailed(
            f"{file} of {repository}: the server tells no {'size' if about.etag else 'ETag'}"
        )
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    return Remote(
        repository,
        commit,
        file,
        url,
        about.etag,
        about.size,
        folder / "blobs" / about.etag,
    )


def _fetched(remote: Remote, tell: Tell) -> Path:
    """The file in the cache's snapshot of its commit."""
    from huggingface_hub import hf_hub_download

    with _asking(f"{remote.file} of {remote.repository}"):
        if not remote.cached:
            tell(f"{remote.repository} {remote.file} ({remote.size / 1e9:.2f} GB)")
            _transfer(remote)
        return Path(hf_hub_download(remote.repository, remote.file, revision=remote.commit))


def _transfer(remote: Remote) -> None:
    """Brings the rest of a file; two processes that want the same one take turns."""
    from huggingface_hub import get_token
    from huggingface_hub.file_download import http_get

    token = get_token()
    headers = {"Accept-Encoding": "identity"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    remote.blob.parent.mkdir(parents=True, exist_ok=True)
    with remote.unfinished.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if remote.blob.exists():
            remote.unfinished.unlink(missing_ok=True)
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
        remote.unfinished.replace(remote.blob)


def _check_content(remote: Remote) -> None:
    """Of large files the ETag is the SHA-256; a damaged one is thrown away."""
    if not re.fullmatch("[0-9a-f]{64}", remote.etag):
        return
    with remote.unfinished.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != remote.etag:
        remote.unfinished.unlink()
        raise DownloadFailed(
            f"{remote.file} of {remote.repository} arrived damaged and was thrown away; pull it again"
        )


def _check_room(coming: list[Remote]) -> None:
    """Refuses to begin what the disk cannot hold; what has arrived of a file needs no new room."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    folder = next(each for each in (cache, *cache.parents) if each.is_dir())
    arrived = sum(
        remote.unfinished.stat().st_size for remote in coming if remote.unfinished.exists()
    )
    size = sum(remote.size for remote in coming) - arrived
    free = shutil.disk_usage(folder).free
    if free < size:
        needs = f"{size / 1e9:.1f} GB are to come, {free / 1e9:.1f} are free in {folder}"
        raise DownloadFailed(f"{needs}; choose another place by HF_HOME", retryable=False)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turns the hub's refusals and the network's failures into our error, which says what can be done."""
    import httpx2
    from huggingface_hub.errors import (
        EntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except RepositoryNotFoundError as error:
        reason = "there is no such repository, or it may be read with a token only: set HF_TOKEN"
        raise DownloadFailed(f"{what}: {reason}", retryable=False) from error
    except RevisionNotFoundError as error:
        raise DownloadFailed(f"{what}: there is no such revision", retryable=False) from error
    except EntryNotFoundError as error:
        raise DownloadFailed(
            f"{what}: there is no such file; try another --revision",
            retryable=False,
        ) from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        advice = "pull again, and it goes on where it stopped"
        raise DownloadFailed(f"{what}: {first_line}; {advice}") from error
