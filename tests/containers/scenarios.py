"""What happens to services in the middle of jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farm import Job
from tests.containers.project import RUNNING, Project

MIDDLE = 2
"""The chunk of the first job in which a fault strikes, of six."""

Disturb = Callable[[Project, list[Job]], list[float]]
"""Does something to the project; returns when each fault struck, in seconds since 1970."""


@dataclass(frozen=True)
class Scenario:
    """One way to break the farm."""

    title: str
    disturb: Disturb
    jobs: int = 3
    fields: dict[str, Any] = field(default_factory=dict)
    """Of the first job."""
    error: str | None = None
    """The code of the error with which the first job ends; None if it is finished."""


def undisturbed(project: Project, jobs: list[Job]) -> list[float]:
    return []


def killed(*services: str) -> Disturb:
    """Kills one service after the other, each with one more chunk of the first job done."""

    def disturb(project: Project, jobs: list[Job]) -> list[float]:
        faults = []
        for chunk, service in enumerate(services):
            project.wait_for_chunk(jobs[0], chunk)
            faults.append(time.time())
            project.kill(service)
            project.start(service)
        return faults

    return disturb


def gone(service: str, seconds: float) -> Disturb:
    """Kills a service, and starts it again only after a while."""

    def disturb(project: Project, jobs: list[Job]) -> list[float]:
        project.wait_for_chunk(jobs[0], MIDDLE)
        project.kill(service)
        time.sleep(seconds)
        project.start(service)
        return [time.time()]

    return disturb


def stopped(project: Project, jobs: list[Job]) -> list[float]:
    """Stops the whole project, and starts it again."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    project.compose("stop")
    exits = {name: _exit_status(project, name) for name in RUNNING}
    assert not any(exits.values()), f"exit statuses after `stop`: {exits}"
    at = time.time()
    project.up()
    return [at]


def out_of_memory(project: Project, jobs: list[Job]) -> list[float]:
    """Gives the gpu container less memory than a chunk takes, until the first job has ended."""
    enough = {"MINIATURE_MEMORY": project.variables.get("MINIATURE_MEMORY", "2g")}
    project.keep_logs()
    project.set(MINIATURE_MEMORY="600m")
    project.compose("up", "--detach", "gpu")
    project.wait_for(lambda: jobs[0].status().ended)
    project.keep_logs()
    project.set(**enough)
    project.up("gpu")
    return []


def full_scratch(project: Project, jobs: list[Job]) -> list[float]:
    """Fills the gpu container's /tmp for a while."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    fill = "cat /dev/zero > /tmp/fill 2>/dev/null; sleep 15; rm /tmp/fill"
    project.compose("exec", "-T", "gpu", "sh", "-c", fill)
    return [time.time()]


def wrong_clock(project: Project, jobs: list[Job]) -> list[float]:
    """Replaces the gpu worker by one whose clock is an hour ahead."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    override = project.folder / "clock.yaml"
    override.write_text(
        "services: {gpu: {image: 'infinitetalk-farm:clock', environment: "
        "{LD_PRELOAD: /libfaketime.so.1, FAKETIME: '+3600', FAKETIME_DONT_FAKE_MONOTONIC: '1'}}}\n"
    )
    project.overrides = [override]
    project.keep_logs()
    at = time.time()
    project.up("gpu")
    return [at]


def upgraded(project: Project, jobs: list[Job]) -> list[float]:
    """Starts workers of another image beside those that run, then stops the old ones."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    old = {service: project.containers(service)[0]["Id"] for service in ("cpu", "gpu")}
    project.set(IMAGE="infinitetalk-farm-next")
    scale = ("--scale", "cpu=2", "--scale", "gpu=2")
    project.compose("up", "--detach", "--no-deps", "--no-recreate", *scale, *old)
    project.wait_until_well("cpu", "gpu")
    project.wait_for(lambda: jobs[0].status().ended)
    at = time.time()
    project.engine.run("stop", "--time", "100", *old.values())
    project.keep_logs()
    project.engine.run("rm", *old.values())
    project.set(IMAGE="infinitetalk-farm")
    return [at]


def _exit_status(project: Project, service: str) -> int:
    return max(int(each["State"]["ExitCode"]) for each in project.containers(service))


UNDISTURBED = Scenario("no fault", undisturbed, jobs=1)

SHORT: dict[str, Scenario] = {
    "killed": Scenario("docker kill in turn", killed("gpu", "registry", "s3", "cpu"), jobs=2),
    "stopped": Scenario("project stopped and started", stopped, jobs=1),
}
"""Those of CI."""

LONG: dict[str, Scenario] = {
    "undisturbed": UNDISTURBED,
    "killed": Scenario("docker kill of each service in turn", killed(*RUNNING), jobs=10),
    "stopped": Scenario("project stopped and started", stopped),
    "s3-gone": Scenario("s3 gone for 60 s", gone("s3", 60)),
    "memory": Scenario(
        "gpu over its memory limit",
        out_of_memory,
        jobs=2,
        fields={"frame_num": 81, "max_frame_num": 81},
        error="E_WORKER_LOST",
    ),
    "scratch": Scenario("/tmp of gpu full for 15 s", full_scratch),
    "clock": Scenario("clock of gpu an hour ahead", wrong_clock),
    "upgrade": Scenario("workers of two images side by side", upgraded, jobs=6),
}
"""All of them."""
