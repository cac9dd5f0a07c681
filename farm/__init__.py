"""A queue-based GPU farm that turns a face and a voice into a talking video.

from farm import Farm
job = Farm().submit(prompt="...", cond_video="portrait.png", cond_audio={"person1": "speech.wav"})
for event in job.events():
    print(event.stage, event.pct)
job.save("talking.mp4")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names as in _MODULES
    from farm.client import Farm, Job
    from farm.errors import FarmError
    from farm.estimate import Estimate
    from farm.job import Event, JobRequest, JobStatus, Result

    __version__: str

__all__ = ["Estimate", "Event", "Farm", "FarmError", "Job", "JobRequest", "JobStatus", "Result"]

_MODULES = {
    "Estimate": "farm.estimate",
    "Event": "farm.job",
    "Farm": "farm.client",
    "FarmError": "farm.errors",
    "Job": "farm.client",
    "JobRequest": "farm.job",
    "JobStatus": "farm.job",
    "Result": "farm.job",
}


if not TYPE_CHECKING:  # which would find every name here, misspelt ones too

    def __getattr__(name: str) -> object:
        """Imports public names on first use, so that `import farm.model` loads nothing else."""
        if name == "__version__":
            from importlib.metadata import version

            return version("infinitetalk-farm")
        if name not in _MODULES:
            raise AttributeError(f"module 'farm' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
