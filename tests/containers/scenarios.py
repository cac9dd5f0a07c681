"""What happens to services in the middle of jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farm import Job
from tests.containers.project import RUNNING, Project

MIDDLE = 2
"""The chunk of the first job in which a fault strikes, of four."""

ROOM_BYTES = 16 * 2**20
"""What a worker has beside what it holds at rest: less than a chunk takes."""

Disturb = Callable[[Project, list[Job]], list[float]]
"""Does something to the project; returns when each fault struck, in seconds since 1970."""


@dataclass(frozen=True)
class Scenario:
    """One way to break the farm."""

    title: str
    disturb: Disturb
    jobs: int = 2
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
    """Leaves the gpu container less memory than a chunk takes, until the first job has ended."""
    (gpu,) = project.containers("gpu")
    usual = int(gpu["HostConfig"]["Memory"])
    project.limit_memory("gpu", project.memory_in_use("gpu") + ROOM_BYTES)
    project.wait_for(lambda: jobs[0].status().ended)
    project.limit_memory("gpu", usual)
    project.wait_until_well("gpu")
    return []


def full_scratch(project: Project, jobs: list[Job]) -> list[float]:
    """Fills the gpu container's /tmp for a while."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    fill = "cat /dev/zero > /tmp/fill 2>/dev/null; sleep 15; rm /tmp/fill"
    project.compose("exec", "-T", "gpu", "sh", "-c", fill)
    return [time.time()]


def wrong_clock(project: Project, jobs: list[Job]) -> list[float]:
    """Replaces the gpu worker by one whose clock is an hour ahead, which the S3 service refuses;
    then by one that is ten minutes ahead.
    """
    project.wait_for_chunk(jobs[0], MIDDLE)
    _set_clock(project, 3600)
    project.wait_for(lambda: "RequestTimeTooSkewed" in project.log("gpu"))
    at = time.time()
    _set_clock(project, 600)
    project.wait_for(lambda: all(job.status().ended for job in jobs))
    project.overrides = []
    project.keep_logs()
    project.up("gpu")
    return [at]


def _set_clock(project: Project, seconds: int) -> None:
    """Replaces the gpu worker by one whose clock is ahead."""
    override = project.folder / "clock.yaml"
    override.write_text(CLOCK.format(seconds=seconds))
    project.overrides = [override]
    project.keep_logs()
    project.compose("up", "--detach", "gpu")


CLOCK = """
services:
  gpu:
    image: infinitetalk-farm:clock
    environment:
      LD_PRELOAD: /libfaketime.so.1
      FAKETIME: "+{seconds}"
      FAKETIME_DONT_FAKE_MONOTONIC: "1"
    healthcheck: {{disable: true}} # the times of files are not faked
"""


def without_memory(project: Project, jobs: list[Job]) -> list[float]:
    """Lets the registry refuse all that needs memory, for a while."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    limit = project.registry("config", "get", "maxmemory").splitlines()[-1]
    project.registry("config", "set", "maxmemory", "1")
    time.sleep(20)
    at = time.time()
    project.registry("config", "set", "maxmemory", limit)
    return [at]


def another_broker(project: Project, jobs: list[Job]) -> list[float]:
    """Moves the farm from Valkey to RabbitMQ, kills that, and moves the farm back."""
    project.wait_for_chunk(jobs[0], MIDDLE)
    _move(project, project.over_rabbitmq, "rabbitmq")
    project.wait_for_chunk(jobs[0], MIDDLE + 1)
    at = time.time()
    project.kill("rabbitmq")
    project.start("rabbitmq")
    project.wait_for(lambda: all(job.status().ended for job in jobs))
    _move(project, {})
    project.compose("rm", "--stop", "--force", "rabbitmq")
    return [at]


def _move(project: Project, variables: dict[str, str], *services: str) -> None:
    """As docs/operations/rabbitmq.md says: workers and clients stop, and start with the other."""
    project.keep_logs()
    project.compose("stop", "cpu", "gpu", "gateway", "gc")
    project.unset(*project.over_rabbitmq.keys() & project.variables.keys())
    project.set(**variables)
    project.up(*RUNNING, *services)


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
        jobs=1,
        error="E_WORKER_LOST",
    ),
    "registry": Scenario("registry without memory for 20 s", without_memory),
    "rabbitmq": Scenario("moved to RabbitMQ, which is killed", another_broker),
    "scratch": Scenario("/tmp of gpu full for 15 s", full_scratch),
    "clock": Scenario("clock of gpu an hour, then 10 min ahead", wrong_clock),
    "upgrade": Scenario("workers of two images side by side", upgraded, jobs=6),
}
"""All of them."""
