"""Published weights from the hub into its cache on this machine, locked and recorded."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath

from farm.errors import DownloadFailed, InvalidInput
from farm.model.weights.hub import (
    Fetched,
    PrintLine,
    Remote,
    cache_folder,
    commit_of,
    fetch,
    remote_file,
)
from farm.model.weights.lock import LockedRepository, lock_file, read_lock, write_lock
from farm.model.weights.published import (
    OFFICIAL,
    Needs,
    Repository,
    needed_repositories,
    published,
)
from farm.model.weights.sources import Source, pull_record, read_sources, write_sources
from farm.model.weights.space import Demand, check_space, gigabytes
from farm.presets import Preset


def pull(
    preset: Preset,
    root: Path,
    *,
    origin: str = OFFICIAL,
    speakers: str = "single",
    only: Collection[str] = (),
    revisions: Mapping[str, str] | None = None,
    print_line: PrintLine,
) -> dict[str, Source]:
    """Downloads what `convert` needs for a preset, and records it with its commits under `root`.

    `origin` is one of those in `farm.model.weights.published`; `only` names some of its roles. The
    commits are those of the preset's lock, which the first pull writes. `revisions` names, by
    repository, another branch, tag or commit to take, and to lock. Raises InvalidInput for what is
    not published or not needed, and DownloadFailed, also for content that is not what is known or
    locked; what has arrived by then is kept.
    """
    needs = needed_repositories(preset, origin=origin, speakers=speakers, only=only)
    lock = read_lock(lock_file(root, preset))
    chosen = _chosen_revisions(needs, lock, revisions or {})
    _make_folder(root)
    commits = {name: commit_of(name, revision) for name, revision in chosen.items()}
    remotes = {
        role: _remotes(each, commits[each.name], lock.get(each.name))
        for role, each in needs.items()
    }
    demands = _demands(preset, root, [*chain(*remotes.values())], converts=not only)
    _announce(needs, remotes, demands, print_line)
    check_space(demands)
    sources = read_sources(pull_record(root, preset)) if only else {}
    for role, repository in needs.items():
        name = repository.name
        fetched = {remote.file: fetch(remote, print_line) for remote in remotes[role]}
        sources[role] = Source(_path(repository, fetched), name, chosen[name], commits[name])
        lock[name] = _locked(commits[name], fetched, lock.get(name))
    write_lock(lock_file(root, preset), lock)
    write_sources(pull_record(root, preset), sources)
    return {role: sources[role] for role in needs}


def _make_folder(root: Path) -> None:
    """Creates the folder of the lock and the record, before hours are spent on a download."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"weights: {root} cannot be created: {error}") from error


def _chosen_revisions(
    needs: Needs, lock: Mapping[str, LockedRepository], revisions: Mapping[str, str]
) -> dict[str, str]:
    """The revision of each repository, by its name."""
    defaults = {each.name: each.commit for each in needs.values()}
    unknown = sorted(revisions.keys() - defaults.keys())
    if unknown:
        raise InvalidInput(
            f"revision: got one for {unknown[0]!r}; this preset needs {', '.join(defaults)}"
        )
    locked = {name: lock[name].commit for name in defaults if name in lock}
    return defaults | locked | dict(revisions)


def _remotes(repository: Repository, commit: str, locked: LockedRepository | None) -> list[Remote]:
    """The needed files of a repository, all at one commit; the index is fetched for its shards."""
    known = dict(locked.files) if locked and locked.commit == commit else {}
    if repository.commit == commit:
        known |= {file: digest for file, digest in repository.files.items() if digest}
    files = [*repository.files]
    if repository.index:
        index = remote_file(repository.name, commit, repository.index, known.get(repository.index))
        files = [repository.index, *_shards(repository.index, fetch(index).path), *files]
    return [remote_file(repository.name, commit, file, known.get(file)) for file in files]


def _shards(index: str, path: Path) -> list[str]:
    """The files of a repository that an index of tensors names; they lie beside it."""
    try:
        names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        outside = [name for name in names if PurePosixPath(name).name != name]
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DownloadFailed(
            f"{path} is not an index of tensors: {error}", retryable=False
        ) from error
    if outside:
        raise DownloadFailed(
            f"{path} names a file outside its folder: {outside[0]}", retryable=False
        )
    return [str(PurePosixPath(index).with_name(name)) for name in names]


def _announce(
    needs: Needs,
    remotes: Mapping[str, list[Remote]],
    demands: list[Demand],
    print_line: PrintLine,
) -> None:
    """Prints what is needed, role by role, and the space that it takes."""
    for role, files in remotes.items():
        size = gigabytes(sum(remote.size for remote in files))
        noun = "file" if len(files) == 1 else "files"
        here = ", here already" if all(remote.is_cached for remote in files) else ""
        place = f"{needs[role].name} at {files[0].commit[:12]}"
        print_line(f"{role:13} {size:>9} in {len(files):2} {noun} of {place}{here}")
    for each in demands:
        free = f"{each.folder} has {gigabytes(each.free)} free"
        print_line(f"{each.purpose} {gigabytes(each.size)}; {free}")


def _demands(preset: Preset, root: Path, remotes: list[Remote], *, converts: bool) -> list[Demand]:
    """The space that the rest of the download takes, and the conversion after it."""
    missing = sum(remote.missing_bytes for remote in remotes)
    demands = [Demand(cache_folder(), missing, "the download takes", "HF_HOME")]
    if converts and not preset.folder(root).exists():
        size = published(preset).converted_bytes
        demands.append(Demand(root, size, f"the conversion into {root} takes", "FARM_WEIGHTS"))
    return demands


def _path(repository: Repository, fetched: Mapping[str, Fetched]) -> Path:
    """Where the files of a role lie: the file itself if there is but one."""
    first = next(iter(fetched.values())).path
    return first if len(fetched) == 1 and not repository.index else first.parent


def _locked(
    commit: str, fetched: Mapping[str, Fetched], before: LockedRepository | None
) -> LockedRepository:
    """A repository with its files of this pull, and of earlier ones of the same commit."""
    earlier = before.files if before and before.commit == commit else {}
    digests = {file: each.sha256 for file, each in fetched.items()}
    return LockedRepository(commit, {**earlier, **digests})
