"""What the API answers; OpenAPI's schemas are made of these."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from farm.estimate import Estimate, Length
from farm.gateway.v1.signed import Signer
from farm.gateway.video import Video
from farm.job import Failure, JobStatus, Result, State, WebhookStatus
from farm.job.contract import Contract
from farm.job.voices import Voice
from farm.store import Store
from farm.store.local import LocalStore

JOBS = "/v1/jobs"
ESTIMATES = "/v1/estimates"
VOICES = "/v1/voices"


class Links(Contract):
    """Where the rest of a job is on this server, as paths; all but `job` need no key for a day."""

    job: str
    events: str
    playlist: str = Field(description="409 before the first finished chunk")
    content: str | None = Field(description="null unless there is a video")
    thumbnail: str | None = Field(description="null unless there is a video")

    @classmethod
    def of(cls, status: JobStatus, signer: Signer) -> Self:
        job = f"{JOBS}/{status.job_id}"
        query = signer.query(status.job_id)
        is_made = status.state == "success"
        return cls(
            job=job,
            events=f"{job}/events{query}",
            playlist=f"{job}/playlist.m3u8{query}",
            content=f"{job}/content{query}" if is_made else None,
            thumbnail=f"{job}/thumbnail{query}" if is_made else None,
        )

    def result(self, result: Result, store: Store) -> Result:
        """A result with links in place of URLs that say where the folder of a store is.

        An artifact without a link is left out.
        """
        if result.video is None or not isinstance(store, LocalStore):
            return result
        folder = store.root.as_uri()
        links = {"video": self.content, "thumbnail": self.thumbnail}
        artifacts = (
            each.model_copy(update={"url": links.get(each.type)})
            if each.url.startswith(folder)
            else each
            for each in result.artifacts
        )
        video = result.video
        if video.url.startswith(folder):
            shown = {"url": self.content, "thumbnail_url": self.thumbnail}
            video = video.model_copy(update=shown)
        return result.model_copy(
            update={"video": video, "artifacts": tuple(each for each in artifacts if each.url)}
        )


class JobSummary(Contract):
    """A job in a list; times are seconds since 1970."""

    job_id: str
    state: State
    stage: str
    pct: float = Field(description="0 to 100")
    details: dict[str, Any] = Field(description="of a job that failed: code and message")
    warnings: tuple[str, ...] = Field(description="what its user should know about the video")
    created_at: float
    started_at: float | None = Field(description="null before the first step")
    updated_at: float
    links: Links

    @classmethod
    def of(cls, status: JobStatus, signer: Signer, **more: Any) -> Self:
        shared = {
            name: getattr(status, name) for name in JobSummary.model_fields.keys() - {"links"}
        }
        return cls(**shared, links=Links.of(status, signer), **more)


class Job(JobSummary):
    """A job with its estimate, or its result."""

    eta_s: float | None = Field(description="seconds of the chunks that are left, once known")
    queue_position: int | None = Field(
        description="place among jobs that wait for the same workers; null while a step runs"
    )
    result: Result | None = Field(description="null until the job has ended")
    webhook: WebhookStatus | None = Field(
        description="the delivery of its webhook; null without one, and until the job has ended"
    )

    @classmethod
    def of_video(cls, video: Video) -> Self:
        status = video.status
        signer = Signer.of(video.ctx.registry)
        result = status.result and Links.of(status, signer).result(status.result, video.ctx.store)
        return cls.of(
            status,
            signer,
            eta_s=None if status.ended else status.details.get("eta_s"),
            queue_position=video.queue_position(),
            result=result,
            webhook=video.webhook(),
        )


class JobPage(Contract):
    """Jobs, the newest first."""

    jobs: tuple[JobSummary, ...]
    next_cursor: str | None = Field(description="the cursor of the next page; null on the last one")


class VoiceList(Contract):
    """The voices that a job may name; any of espeak-ng's may be followed by a variant, `de+f3`."""

    voices: tuple[Voice, ...]


class Estimated(Contract):
    """What a job would take; null for what is not known."""

    frames: int | None
    chunks: int | None
    gpu_s: float | None = Field(description="seconds of all cards")
    on_cpu: bool = Field(description="whether these are seconds of a CPU, in place of a GPU")
    cost: float | None = Field(description="money, if the operator has set the price of a GPU")
    wait_s: float | None = Field(description="seconds until the first chunk begins")
    time_s: float | None = Field(description="seconds until the last chunk is made")
    length: Length = Field(description="how the length of the voice is known")
    pace: str = Field(description="whose pace it is")
    warnings: tuple[str, ...] = Field(description="what the video would lose of the voice")
    summary: str = Field(description="the same as a sentence")

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        return cls(**vars(estimate), summary=str(estimate))


class Mistake(Contract):
    """One thing that is wrong with a request; null for what its message does not name."""

    message: str
    field: str
    value: str | None = Field(description="as the message shows it")
    allowed: str | None


class Refused(Failure):
    """The contract's error, and what is wrong with the request, if that is the reason."""

    mistakes: tuple[Mistake, ...]


class Problem(Contract):
    """The body of every answer that is an error."""

    error: Refused
