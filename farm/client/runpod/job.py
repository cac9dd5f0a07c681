"""One job of an endpoint."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from farm.client.job import Job
from farm.client.runpod.endpoint import FRESH_S, Endpoint
from farm.errors import DownloadFailed, InvalidInput
from farm.job import Event, JobStatus, ResolvedRequest, Video, WebhookStatus
from farm.net.download import download_file
from farm.retry import retry_until

DOWNLOAD_S = 3600.0
"""Time limit of a video's download; FARM_FETCH_MIN_BYTES_PER_S ends a slow one earlier."""

RETRY_S = 30.0
"""How long a download is tried again that failed for a moment."""


@dataclass(frozen=True, repr=False)
class RunpodJob(Job):
    endpoint: Endpoint = field(repr=False)

    def status(self) -> JobStatus:
        return self.endpoint.status(self.id)

    def events(self) -> Iterator[Event]:
        """The events from now to its end, as far as Runpod shows them: the last one at a time."""
        last = None
        while True:
            status = self.status()
            event = status.event()
            if event != last:
                yield event
            if status.ended:
                return
            last = event
            time.sleep(FRESH_S)

    def request(self) -> ResolvedRequest:
        raise InvalidInput("request: an endpoint shows none; allowed: jobs of a farm with a broker")

    def queue_position(self) -> int | None:
        """None: an endpoint does not say it."""
        return None

    def playlist(self) -> str | None:
        """Raises InvalidInput, or who waits for one would wait until the end."""
        raise InvalidInput(
            "playlist: an endpoint shows no growing video; allowed: the finished one"
        )

    def mirror(self, folder: str | PathLike[str]) -> Path | None:
        """None: an endpoint shows a video when it is finished."""
        return None

    def save_thumbnail(self, path: str | PathLike[str]) -> Path | None:
        """None: what shows an endpoint's jobs downloads no thumbnails."""
        return None

    def webhook(self) -> WebhookStatus | None:
        """None: the endpoint calls it, and does not say how that went."""
        return None

    def cancel(self, by: str = "the caller") -> bool:
        """Ends it; False if it had ended already. Runpod is not told by whom."""
        return self.endpoint.cancel(self.id)

    def delete(self, by: str = "the caller") -> None:
        """Raises InvalidInput."""
        raise InvalidInput(
            f"delete: got {self.id!r} of an endpoint, which removes what it keeps of a job half an "
            "hour after its end; allowed: jobs of a farm with a broker"
        )

    def _fetch_video(self, path: Path) -> Path:
        video = self.result().video
        if video is None:
            raise DownloadFailed(f"video: job {self.id} has none", retryable=False)
        if video.base64 is not None:
            path.write_bytes(b64decode(video.base64))
        else:
            self._download(video, path)
        size = path.stat().st_size
        if size != video.bytes:
            raise DownloadFailed(f"video: it has {size:,} bytes; expected: {video.bytes:,}")
        return path

    def _download(self, video: Video, path: Path) -> None:
        """Downloads a video from where the result says; FARM_FETCH_ALLOW names private networks."""
        if video.url.lower().startswith("file:"):
            raise DownloadFailed(
                "video: the endpoint's store is a folder of its machine; allowed: an s3:// store "
                'there (FARM_STORE_URL), or output_config {"store": "inline"}',
                retryable=False,
            )
        settings = self.context.settings
        retry_until(
            lambda: download_file(
                video.url,
                path,
                field="video",
                max_bytes=video.bytes,
                timeout_s=DOWNLOAD_S,
                min_bytes_per_s=settings.fetch_min_bytes_per_s,
                speed_window_s=settings.fetch_speed_window_s,
                allow=settings.fetch_allow,
                ports=settings.fetch_port_ranges,
            ),
            timeout_s=RETRY_S,
            is_retryable=lambda error: isinstance(error, DownloadFailed) and error.retryable,
            delay_s=1.0,
            max_delay_s=10.0,
        )
