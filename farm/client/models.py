"""Which of a farm's models a job is for."""

from __future__ import annotations

from collections.abc import Sequence

from farm.errors import InvalidInput, did_you_mean
from farm.job import JobRequest, ResolvedRequest, resolve
from farm.presets import preset
from farm.settings import Settings


def accept(request: JobRequest, served: Sequence[str], settings: Settings) -> ResolvedRequest:
    """The request for the model that it names, or for the first of those that are `served`.

    Raises InvalidInput for a model that none of the workers serves, unless jobs may wait for one,
    and for what the model was not trained for.
    """
    name = request.model or served[0]
    if name not in served and settings.unserved_models == "refuse":
        raise InvalidInput(
            f"model: got {name!r}; models of this farm: {', '.join(served)}"
            f"{did_you_mean(name, served)}"
        )
    return resolve(request, preset(name))
