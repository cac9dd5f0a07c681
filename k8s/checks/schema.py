"""Findings by schema: unknown fields and wrong values, in Kubernetes' own kinds and in others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate

from k8s.checks.manifests import Manifest, title

FOLDER = Path(__file__).parent / "schemas"
KUBERNETES = "1.33"
"""The oldest version that the manifests are checked for."""


def findings(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What is wrong with each manifest; a kind without a schema is an error, not a warning."""
    for manifest in manifests:
        yield from _findings(manifest)


def _findings(manifest: Manifest) -> Iterator[str]:
    if (FOLDER / f"{manifest['kind']}.json").is_file():
        for error in _validator(manifest["kind"]).iter_errors(manifest):
            yield f"{title(manifest)}: {error.json_path}: {error.message}"
        if manifest["kind"] == "ScaledJob":
            yield from _builtin(_job(manifest))
        return
    yield from _builtin(manifest)


def _builtin(manifest: Manifest) -> Iterator[str]:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{title(manifest)}: {error.json_path}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{title(manifest)}: {error.message}"


def _job(scaled_job: Manifest) -> Manifest:
    """The Job that a ScaledJob would start."""
    metadata = {"name": scaled_job["metadata"]["name"]}
    spec = scaled_job["spec"].get("jobTargetRef", {})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / f"{kind}.json").read_text())
    return jsonschema.Draft202012Validator(schema)
