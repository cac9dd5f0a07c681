"""Which of the weights on this machine become which part of a preset.

A part may be named, as a file or a folder; the others are looked for in places, of which the first
that has a part counts. Whatever is missing, unfit or ambiguous is said at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from farm.errors import PipelineLoadFailed
from farm.model.parts import EXTRA_FILES, skeleton, tensor_shapes
from farm.model.weights.identify import AUDIO_LAYERS, Identity, models
from farm.model.weights.pickle_file import PickleFile
from farm.model.weights.published import WAN, WAV2VEC, official
from farm.model.weights.search import Candidate, Findings, findings
from farm.model.weights.sources import Source
from farm.presets import Preset

MAX_NAMED = 5
UNUSED_ROWS = 1_000
"""An embedding may have more rows than there are tokens; UMT5's has 84."""

WHERE = {
    "text_encoder": f"models_t5_umt5-xxl-enc-bf16.pth of {WAN.name}",
    "image_encoder": f"models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth of {WAN.name}",
    "vae": f"Wan2.1_VAE.pth of {WAN.name}",
    "tokenizer": f"the folder google/umt5-xxl of {WAN.name}",
    "audio_encoder": f"pytorch_model.bin and {EXTRA_FILES['audio_encoder'][0]} of {WAV2VEC.name}",
}


@dataclass(frozen=True)
class Chosen:
    """The weights of a role, and where they come from."""

    role: str
    candidate: Candidate
    source: Source


@dataclass
class Selection:
    """The weights of each part of a preset, and everything that is wrong with them."""

    parts: dict[str, list[Chosen]] = field(default_factory=dict)
    """Of two that have the same tensor, the later counts, as in the original code."""
    roles: dict[str, Source] = field(default_factory=dict)
    """What is taken, by role."""
    tokenizer: Path | None = None
    incomplete: set[str] = field(default_factory=set)
    """Parts of which something is missing or ambiguous."""
    faults: list[str] = field(default_factory=list)


def roles(preset: Preset) -> tuple[str, ...]:
    """What can be named: the parts of a preset, the layers that hear, the tokenizer."""
    return (*preset.parts, AUDIO_LAYERS, "tokenizer")


def expected_models(preset: Preset) -> dict[str, str]:
    """The model that each role needs."""
    expected: dict[str, str] = {}
    for part, config in preset.parts.items():
        expected |= models(part, tensor_shapes(skeleton(part, config)))
    return expected


def option(role: str) -> str:
    """The command line's option for a role."""
    return f"--{role.replace('_', '-')}"


def fitting_option(identity: Identity, expected: Mapping[str, str]) -> str | None:
    """The option that takes weights, by the model that each role needs; None if there is none."""
    fitting = [role for role, model in identity.models.items() if expected.get(role) == model]
    return option(fitting[0]) if fitting else None


def where(role: str, preset: Preset) -> str:
    """Where the right weights of a role are published, and the command that fetches them."""
    if role in WHERE:
        place = WHERE[role]
    else:
        published = [each.name for each in official(preset).values()]
        place = " and ".join(name for name in published if name != WAV2VEC.name)
    return f"published: {place}; `farm weights pull {preset.name}` fetches it"


def select(preset: Preset, sources: Mapping[str, Source]) -> Selection:
    """The weights of each part among sources by role, and by other names for places to look in."""
    return _Selector(preset, sources).select()


class _Selector:
    def __init__(self, preset: Preset, sources: Mapping[str, Source]) -> None:
        self._preset = preset
        self._expected = expected_models(preset)
        self._named = {role: sources[role] for role in roles(preset) if role in sources}
        self._places = [each for role, each in sources.items() if role not in self._named]
        self._findings = cache(findings)  # a place is searched once
        self._made = Selection()

    def select(self) -> Selection:
        self._select_transformer()
        for part in self._preset.parts:
            if part != "transformer":
                self._take(part, part, self._candidates(part))
        self._select_tokenizer()
        return self._made

    def _select_transformer(self) -> None:
        """The transformer: whole, or without its layers that hear and these beside it."""
        if AUDIO_LAYERS in self._named:
            self._select_around_named_layers()
            return
        seen = self._candidates("transformer")
        self._take("transformer", "transformer", seen)
        heard = [] if seen and all(map(_is_whole, seen)) else self._candidates(AUDIO_LAYERS)
        if heard or not all(map(_is_whole, seen)):
            self._take("transformer", AUDIO_LAYERS, heard)

    def _select_around_named_layers(self) -> None:
        """What is named for its layers may be a whole transformer, and then no other is needed."""
        heard = self._candidates(AUDIO_LAYERS)
        if "transformer" in self._named or not any(map(_is_whole, heard)):
            seen = self._candidates("transformer")
            apart = [each for each in seen if not _is_whole(each)]
            self._take("transformer", "transformer", apart or seen)
        self._take("transformer", AUDIO_LAYERS, heard)

    def _candidates(self, role: str) -> list[Chosen]:
        """What fits a role: at the named path, or in the first place that has something."""
        for source in self._sources(role):
            fitting = [each for each in self._found(source).candidates if self._fits(each, role)]
            if fitting:
                return [Chosen(role, each, source) for each in _without_copies(fitting)]
        return []

    def _fits(self, candidate: Candidate, role: str) -> bool:
        found = candidate.identity.models
        if role == AUDIO_LAYERS and role not in self._named and len(found) > 1:
            return False  # whole transformers are looked for as such
        return found.get(role) == self._expected[role]

    def _sources(self, role: str) -> list[Source]:
        return [self._named[role]] if role in self._named else self._places

    def _found(self, source: Source) -> Findings:
        try:
            return self._findings(source.path)
        except PipelineLoadFailed as error:
            return Findings(faults=[error.message])

    def _take(self, part: str, role: str, fitting: list[Chosen]) -> None:
        """Takes the only candidate; says what is wrong if there is none, or more than one."""
        if len(fitting) == 1:
            (chosen,) = fitting
            self._made.parts.setdefault(part, []).append(chosen)
            self._made.roles[role] = replace(chosen.source, path=chosen.candidate.path)
            return
        self._made.incomplete.add(part)
        if fitting:
            named = ", ".join(str(each.candidate.path) for each in fitting[:MAX_NAMED])
            self._made.faults.append(
                f"{role}: {len(fitting)} fit, and which one is meant cannot be told: {named}; "
                f"name one with {option(role)}"
            )
        else:
            self._made.faults.append(self._missing(role))

    def _missing(self, role: str) -> str:
        """Why nothing fits a role, and what to do."""
        searched = [self._found(source) for source in self._sources(role)]
        faults = [fault for found in searched for fault in found.faults]
        unfit = [
            f"{each.path} {'is the wrong model' if each.identity.models else 'cannot be used'}: "
            f"{each.identity}"
            for found in searched
            for each in found.candidates
            if role in self._named or self._is_like(each, role)
        ]
        needed = self._expected[role]
        if role == "transformer":
            needed += f" with the audio layers, or with these as {option(AUDIO_LAYERS)}"
        return self._not_found(role, [*unfit, *faults], needed)

    def _is_like(self, candidate: Candidate, role: str) -> bool:
        """Whether a candidate may have been mistaken for what a role needs."""
        part = candidate.identity.naming.part if candidate.identity.naming else None
        return part == ("transformer" if role == AUDIO_LAYERS else role)

    def _select_tokenizer(self) -> None:
        rows = int(self._preset.parts["text_encoder"]["vocab_size"])
        for source in self._sources("tokenizer"):
            found = self._found(source).tokenizers
            fitting = [
                path for path, tokens in found.items() if rows - UNUSED_ROWS < tokens <= rows
            ]
            if len(fitting) > 1:
                named = ", ".join(map(str, fitting[:MAX_NAMED]))
                self._made.faults.append(
                    f"tokenizer: {len(fitting)} fit: {named}; name one with {option('tokenizer')}"
                )
            if fitting:
                self._made.tokenizer = fitting[0]
                self._made.roles["tokenizer"] = replace(source, path=fitting[0])
                return
        self._made.faults.append(self._missing_tokenizer(rows))

    def _missing_tokenizer(self, rows: int) -> str:
        searched = [self._found(source) for source in self._sources("tokenizer")]
        others = [
            f"{path} has {tokens} tokens, the text encoder {rows} rows"
            for found in searched
            for path, tokens in found.tokenizers.items()
        ]
        faults = [fault for found in searched for fault in found.tokenizer_faults]
        return self._not_found("tokenizer", [*faults, *others], "UMT5's tokenizer.json")

    def _not_found(self, role: str, reasons: list[str], needed: str) -> str:
        """That nothing fits a role, why, and what to do."""
        paths = ", ".join(str(source.path) for source in self._sources(role))
        begin = f"in {paths}" if paths else f"neither given with {option(role)} nor in a folder"
        why = "".join(f"; {reason}" for reason in reasons[:MAX_NAMED])
        return (
            f"{role}: not found {begin}{why}; needed: {needed}; "
            f"{where(role, self._preset)}; give {option(role)}"
        )


def _is_whole(chosen: Chosen) -> bool:
    """Whether a transformer has its layers that hear."""
    return len(chosen.candidate.identity.models) == 2


def _without_copies(candidates: list[Candidate]) -> list[Candidate]:
    """Without pickles beside which the same model lies in another container, as hubs have it."""
    others = {each.path.parent for each in candidates if not _is_pickle(each)}
    return [each for each in candidates if not (_is_pickle(each) and each.path.parent in others)]


def _is_pickle(candidate: Candidate) -> bool:
    return candidate.files[0].container == PickleFile.container
