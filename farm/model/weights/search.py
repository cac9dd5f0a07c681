"""The weights in a folder, wherever they lie in it.

The official layout, Diffusers' and ComfyUI's differ in folders and names of files; here only what
the files hold counts. The names of shards are the exception: an index, or their numbers, say which
files belong together.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from farm.errors import PipelineLoadFailed
from farm.model.weights.containers import container
from farm.model.weights.identify import Identity, identify, open_set
from farm.model.weights.naming import Naming
from farm.model.weights.tensorfile import TensorFile, shard_paths

INDEX = ".safetensors.index.json"
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.\w+")
TOKENIZER = "tokenizer.json"

MAX_DEPTH = 6
MAX_FILES = 20_000
MAX_TOKENIZER_BYTES = 100_000_000


@dataclass(frozen=True)
class Candidate:
    """Files that hold weights together."""

    files: tuple[TensorFile, ...]
    identity: Identity

    @property
    def naming(self) -> Naming:
        """The naming of its tensors; ValueError for what has no role."""
        if self.identity.naming is None:
            raise ValueError(f"{self.path} is {self.identity}")
        return self.identity.naming

    @property
    def path(self) -> Path:
        """The file, or the folder of the shards."""
        first = self.files[0].path
        return first if len(self.files) == 1 else first.parent


@dataclass
class Findings:
    """What a path has."""

    candidates: list[Candidate] = field(default_factory=list)
    tokenizers: dict[Path, int] = field(default_factory=dict)
    """Folders of tokenizers, with their numbers of tokens."""
    faults: list[str] = field(default_factory=list)
    """A sentence for each file that should be weights and cannot be read."""
    tokenizer_faults: list[str] = field(default_factory=list)
    """The same for tokenizers."""


def findings(path: Path) -> Findings:
    """The weights and tokenizers at a path: a file, an index of shards, or a folder.

    Raises PipelineLoadFailed if there is nothing there, or too much.
    """
    search = _Search()
    if path.is_dir():
        search.add_folder(path)
    elif not path.is_file():
        raise PipelineLoadFailed(f"{path} is missing")
    elif path.name == TOKENIZER:
        search.add_tokenizer(path)
    elif path.name.endswith(INDEX):
        search.add_shards(path)
    else:
        search.groups.append([path])
    search.open_groups()
    return search.found


class _Search:
    def __init__(self) -> None:
        self.found = Findings()
        self.groups: list[list[Path]] = []
        """Files that may hold weights, those together that belong together."""
        self._folders: set[Path] = set()
        self._files = 0

    def add_folder(self, folder: Path, depth: int = 0) -> None:
        """A folder and those below it; hidden ones apart, and each once."""
        real = folder.resolve()
        if depth > MAX_DEPTH or real in self._folders:
            return
        self._folders.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.found.faults.append(f"{folder} cannot be read: {error}")
            return
        self._files += len(entries)
        if self._files > MAX_FILES:
            raise PipelineLoadFailed(f"{folder}: more than {MAX_FILES} files; name those to take")
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        self._add_files([Path(entry.path) for entry in visible if not entry.is_dir()])
        for entry in visible:
            if entry.is_dir():
                self.add_folder(Path(entry.path), depth + 1)

    def _add_files(self, paths: list[Path]) -> None:
        """The files of one folder."""
        indexed: set[Path] = set()
        numbered: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
        for path in paths:
            if path.name == TOKENIZER:
                self.add_tokenizer(path)
            elif path.name.endswith(INDEX):
                indexed |= set(self.add_shards(path))
        for path in paths:
            if path in indexed or not _may_hold_weights(path):
                continue
            shard = SHARD.fullmatch(path.name)
            if shard:
                numbered[shard[1], shard[2]].append(path)
            else:
                self.groups.append([path])
        self.groups += numbered.values()

    def add_shards(self, index: Path) -> list[Path]:
        """The shards that an index names."""
        try:
            shards = shard_paths(index.parent, index.name.removesuffix(INDEX))
        except PipelineLoadFailed as error:
            self.found.faults.append(error.message)
            return []
        self.groups.append(shards)
        return shards

    def add_tokenizer(self, file: Path) -> None:
        """A tokenizer.json."""
        try:
            self.found.tokenizers[file.parent] = token_count(file)
        except PipelineLoadFailed as error:
            self.found.tokenizer_faults.append(error.message)

    def open_groups(self) -> None:
        """What the files hold.

        Shards come first, and links before what they lead to: in the hub's cache a link has the
        name and the neighbours of a file, which lies alone, under its digest, elsewhere.
        """
        opened: set[Path] = set()
        for group in sorted(self.groups, key=lambda each: (-len(each), not each[0].is_symlink())):
            real = {path.resolve() for path in group}
            if not real <= opened:
                self._open(group)
            opened |= real

    def _open(self, paths: list[Path]) -> None:
        try:
            files = open_set(paths)
            self.found.candidates.append(Candidate(files, identify(files)))
        except PipelineLoadFailed as error:
            self.found.faults.append(error.message)


def _may_hold_weights(path: Path) -> bool:
    try:
        return path.is_file() and container(path) is not None
    except OSError:
        return False


def token_count(file: Path) -> int:
    """The number of token ids in a tokenizer.json; PipelineLoadFailed if it is none."""
    try:
        if file.stat().st_size > MAX_TOKENIZER_BYTES:
            raise PipelineLoadFailed(f"{file} is larger than {MAX_TOKENIZER_BYTES} bytes")
        record = json.loads(file.read_text())
        vocabulary = record["model"]["vocab"]
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        added = (token["id"] for token in record.get("added_tokens") or ())
        return int(max((*ids, *added), default=-1)) + 1
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineLoadFailed(f"{file} is not a tokenizer: {error!r}") from error
