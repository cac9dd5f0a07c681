"""The Python client: `Farm` submits jobs, `Job` follows one."""

from farm.client.farm import Farm
from farm.client.job import Job

__all__ = ["Farm", "Job"]
