"""A talking video by Runpod's own Python client, from a gateway or from Runpod itself.

pip install runpod==1.12.0                                  # in an environment of its own
farm gateway                                                # in another shell
farm payload --request examples/single_image.json --envelope -o request.json

export RUNPOD_ENDPOINT_BASE_URL=http://127.0.0.1:8000/v2    # read when runpod is imported
export RUNPOD_API_KEY=itf_...                               # `farm keys create`; or any text
python examples/runpod_client.py request.json
"""

import json
import os
import sys
from pathlib import Path

import requests
import runpod


def main(payload: Path) -> None:
    request = json.loads(payload.read_text())
    endpoint = runpod.Endpoint(
        os.environ.get("RUNPOD_ENDPOINT_ID", "farm"), api_key=os.environ["RUNPOD_API_KEY"]
    )

    job = endpoint.run(request)
    print("submitted", job.job_id, job.status())
    for part in job.stream():  # each finished chunk, then the result
        print("part", json.dumps(part))
    print("ended", job.status(), video_url(job.output()))

    print("waited", video_url(endpoint.run_sync(request, timeout=600)))

    unwanted = endpoint.run(request)
    print("cancelled", unwanted.cancel()["status"])
    print("health", json.dumps(endpoint.health()))
    print("purged", endpoint.purge_queue()["removed"])


def video_url(output: dict) -> str:
    """The URL of the video in a result; of a failed job, the error."""
    if output["status"] == "error":
        sys.exit(json.dumps(output["error"]))
    return output["video"]["url"]


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except requests.HTTPError as error:  # its own text has the status alone
        sys.exit(f"HTTP {error.response.status_code}: {error.response.text}")
