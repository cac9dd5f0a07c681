"""What each step does: download, embed, generate, mux, notify."""

from __future__ import annotations

from farm.engine.step_context import StepFunction
from farm.route import StepKind


def step_function(kind: StepKind) -> StepFunction:
    """The function that runs a kind of step.

    Imported when it is first needed, so that a cpu worker never loads what a gpu worker needs.
    """
    match kind:
        case "download":
            from farm.steps.download import download

            return download
        case "embed":
            from farm.steps.embed import embed

            return embed
        case "generate":
            from farm.steps.generate import generate

            return generate
        case "mux":
            from farm.steps.mux import mux

            return mux
        case "notify":
            from farm.steps.notify import notify

            return notify
