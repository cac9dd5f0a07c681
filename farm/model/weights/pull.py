"""Published weights from the hub into its cache on this machine, with resumable transfers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from farm.errors import DownloadFailed, InvalidInput
from farm.model.weights.hub import Fetched, PrintLine, Remote, commit_of, fetch, remote_file
from farm.model.weights.lock import LockedRepository, lock_file, read_lock, write_lock
from farm.model.weights.sources import (
    Repository,
    Source,
    pull_record,
    repositories,
    write_sources,
)
from farm.presets import Preset


def pull(
    preset: Preset,
    root: Path,
    *,
    speakers: str = "single",
    revisions: Mapping[str, str] | None = None,
    print_line: PrintLine,
) -> dict[str, Source]:
    """Downloads what `convert` needs for a preset, and records it with its commits under `root`.

    The commits are those of the preset's lock, which the first pull writes. `revisions` names, by
    repository, another branch, tag or commit to take, and to lock. Raises InvalidInput for a
    repository that is not needed or a preset that needs none, and DownloadFailed, also for content
    that is not what is known or locked; what has arrived by then is kept.
    """
    needed = repositories(preset, speakers)
    lock = read_lock(lock_file(root, preset))
    chosen = _chosen_revisions(needed, lock, revisions or {})
    remotes = {
        role: _remotes(each, chosen[each.name], lock.get(each.name))
        for role, each in needed.items()
    }
    _announce([remote for each in remotes.values() for remote in each], print_line)
    sources = {}
    for role, each in remotes.items():
        name = needed[role].name
        fetched = {remote.file: fetch(remote, print_line) for remote in each}
        folder = next(iter(fetched.values())).path.parent
        sources[role] = Source(folder, name, chosen[name], each[0].commit)
        lock[name] = _locked(each[0].commit, fetched, lock.get(name))
    write_lock(lock_file(root, preset), lock)
    write_sources(pull_record(root, preset), sources)
    return sources


def _announce(remotes: list[Remote], print_line: PrintLine) -> None:
    """Prints what is missing; DownloadFailed if the disk cannot hold it."""
    missing = [remote for remote in remotes if not remote.is_cached]
    _check_disk_space(missing)
    size = sum(remote.size for remote in missing)
    print_line(f"{size / 1e9:.2f} GB in {len(missing)} files to download")


def _chosen_revisions(
    needed: Mapping[str, Repository],
    lock: Mapping[str, LockedRepository],
    revisions: Mapping[str, str],
) -> dict[str, str]:
    """The revision of each repository, by its name."""
    defaults = {each.name: each.commit for each in needed.values()}
    unknown = sorted(revisions.keys() - defaults.keys())
    if unknown:
        raise InvalidInput(
            f"revision: got one for {unknown[0]!r}; this preset needs {', '.join(defaults)}"
        )
    locked = {name: lock[name].commit for name in defaults if name in lock}
    return defaults | locked | dict(revisions)


def _locked(
    commit: str, fetched: Mapping[str, Fetched], before: LockedRepository | None
) -> LockedRepository:
    """A repository with its files of this pull, and of earlier ones of the same commit."""
    earlier = before.files if before and before.commit == commit else {}
    digests = {file: each.sha256 for file, each in fetched.items()}
    return LockedRepository(commit, {**earlier, **digests})


def _known_digests(
    repository: Repository, commit: str, locked: LockedRepository | None
) -> dict[str, str]:
    """The SHA-256 that files of a repository have at a commit."""
    known = dict(locked.files) if locked and locked.commit == commit else {}
    if repository.commit == commit:
        known |= {file: digest for file, digest in repository.files.items() if digest}
    return known


def _remotes(
    repository: Repository, revision: str, locked: LockedRepository | None
) -> list[Remote]:
    """The needed files of a repository, all at the commit that the revision means now."""
    commit = commit_of(repository.name, revision)
    known = _known_digests(repository, commit, locked)
    return [
        remote_file(repository.name, commit, file, known.get(file)) for file in repository.files
    ]


def _check_disk_space(missing: list[Remote]) -> None:
    """Refuses a pull that the disk cannot hold; the bytes that have arrived need no new space."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    folder = next(each for each in (cache, *cache.parents) if each.is_dir())
    size = sum(remote.size for remote in missing)
    for remote in missing:
        if remote.partial_blob.exists():
            size -= remote.partial_blob.stat().st_size
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DownloadFailed(
            f"{folder} has {free / 1e9:.1f} GB free; the download takes {size / 1e9:.1f} GB; "
            "set HF_HOME to a folder with more space",
            retryable=False,
        )
