"""The file of a serverless endpoint: what it may say, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm.errors import InvalidInput
from farm.runpod.difference import changes, describe_changes, masked
from farm.runpod.endpoint import EndpointFile
from tests.conftest import EXAMPLES
from tests.support.runpod_rest import CATALOG

FIELDS: dict[str, Any] = {
    "name": "talking",
    "image": "registry.example.org/farm:gpu",
    "gpu": {"pools": ["ADA_48_PRO"]},
    "scaling": {"type": "QUEUE_DELAY", "queue_delay_s": 4},
    "timeout_s": 3600,
}
SMALLEST = {
    "type": "QUEUE",
    "name": "talking",
    "image": "registry.example.org/farm:gpu",
    "gpu": {"pools": ["ADA_48_PRO"], "count": 1},
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4.0},
    "timeout": 3_600_000,
}


def read(folder: Path, **fields: Any) -> EndpointFile:
    path = folder / "endpoint.json"
    path.write_text(json.dumps({**FIELDS, **fields}))
    return EndpointFile.read(path)


def test_the_example_is_an_endpoint_and_holds_no_secret():
    keys = {"S3_ACCESS_KEY": "access", "S3_SECRET_KEY": "secret"}
    body = EndpointFile.read(EXAMPLES / "runpod-endpoint.json").create_body(keys)
    assert body["env"].items() >= keys.items()
    assert body["timeout"] == 3_600_000


def test_what_the_file_leaves_open_is_left_to_runpod(tmp_path):
    assert read(tmp_path).create_body({}) == SMALLEST


def test_names_and_units_become_those_of_runpod(tmp_path):
    body = read(
        tmp_path,
        gpu={
            "pools": ["ADA_48_PRO"],
            "count": 2,
            "excluded_types": ["NVIDIA L40"],
            "allowed_cuda_versions": ["12.8"],
        },
        workers={"min": 1, "max": 5, "idle_timeout_s": 30},
        network_volumes=["vol1"],
        data_center_ids=["EU-RO-1"],
        disk_gb=40,
        ports=["8888/http"],
        registry="reg1",
    ).create_body({})
    assert body["gpu"] == {
        "pools": ["ADA_48_PRO"],
        "excludedTypes": ["NVIDIA L40"],
        "count": 2,
        "allowedCudaVersions": ["12.8"],
    }
    assert body["workers"] == {"min": 1, "max": 5, "idleTimeout": 30}
    assert {name: body[name] for name in body.keys() - SMALLEST.keys() - {"workers"}} == {
        "networkVolumes": ["vol1"],
        "dataCenterIds": ["EU-RO-1"],
        "disk": 40,
        "ports": ["8888/http"],
        "registry": "reg1",
    }


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"scalling": {}}, "scalling: there is no such field; did you mean scaling?"),
        ({"workers": {"mx": 3}}, "workers.mx: there is no such field; did you mean workers.max?"),
        ({"timeout_s": 300_000_000}, "timeout_s: got 300000000; .* longest run of a job"),
        ({"timeout_s": "1 h"}, "timeout_s: got '1 h'"),
        ({"timeout_s": None}, "timeout_s: got null; it must be a whole number"),
        ({"gpu": {"pools": []}}, r"gpu.pools: got \[\]; it must have 1 or more items; "),
        (
            {"gpu": {"pools": ["NVIDIA A100"]}},
            "gpu.pools.0: got 'NVIDIA A100'; it is not written as it should be; allowed: ",
        ),
        ({"scaling": {"type": "X"}}, "its 'type' must be '"),
        ({"scaling": {}}, "it needs 'type'"),
        ({"gpu": {"pools": ["A"], "count": 0}}, "gpu.count: got 0"),
        ({"gpu": {"pools": ["A"], "min_cuda_version": "12"}}, "gpu.min_cuda_version: got '12'"),
        (
            {
                "gpu": {
                    "pools": ["A"],
                    "min_cuda_version": "12.8",
                    "allowed_cuda_versions": ["12.6"],
                }
            },
            "gpu.min_cuda_version: got '12.8'; Runpod takes either it or gpu.allowed_cuda_versions",
        ),
        ({"workers": {"min": 4, "max": 3}}, "workers.min: got 4; workers.max is 3"),
        ({"workers": {"idle_timeout_s": 3601}}, "workers.idle_timeout_s: got 3601"),
        (
            {
                "scaling": {"type": "REQUEST_COUNT", "request_count": 1},
                "workers": {"idle_timeout_s": 5},
            },
            "workers.idle_timeout_s: got 5; Runpod takes none with scaling by REQUEST_COUNT",
        ),
        ({"scaling": {"type": "QUEUE"}}, "scaling: got"),
        ({"scaling": {"type": "QUEUE_DELAY"}}, "scaling.queue_delay_s: it is missing"),
        ({"flashboot": "on"}, "flashboot: got 'on'"),
        ({"image": "farm: gpu"}, "image: got 'farm: gpu'; .* without blanks"),
        ({"image": ""}, "image: got ''"),
        ({"env": {"A-B": "1"}}, "env: 'A-B' cannot be the name of a variable"),
        ({"env": {"A": 5}}, r'^env.A: got 5; allowed: a text, or {"\$env": NAME}$'),
        ({"env": {"A": {"$envv": "B"}}}, r'env.A: got {"\$envv": "B"}; allowed: a text, or'),
        ({"env": {"S3_SECRET_KEY": 5}}, "env.S3_SECRET_KEY: got a secret, which is not shown"),
        (
            {"env": {"FARM_PRESET": "miniature"}},
            "env.FARM_PRESET: there is no such setting; did you mean FARM_PRESETS?",
        ),
        ({"env": {"FARM_LEASE": {"$env": "LEASE"}}}, "env.FARM_LEASE: there is no such setting"),
        ({"ports": ["8888"]}, "ports.0: got '8888'"),
    ],
)
def test_a_file_that_runpod_would_refuse_names_the_field(tmp_path, fields, error):
    with pytest.raises(InvalidInput, match=error):
        read(tmp_path, **fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_SECRET_KEY", "wJalrXUtnFEMI"),
        ("HF_TOKEN", "hf_abc"),
        ("FARM_UI_AUTH", "ann:secret1"),
        ("DATABASE", "redis://:hunter22@host/0"),
    ],
)
def test_a_secret_in_the_file_is_refused_without_showing_it(tmp_path, name, value):
    with pytest.raises(InvalidInput, match=f"env.{name}: it is secret; the file has") as caught:
        read(tmp_path, env={name: value})
    assert value not in caught.value.message


def test_a_secret_that_runpod_keeps_may_be_named(tmp_path):
    env = {"HF_TOKEN": "{{ RUNPOD_SECRET_hf }}"}
    assert read(tmp_path, env=env).create_body({})["env"] == env


def test_a_reference_is_the_value_of_a_variable(tmp_path):
    described = read(tmp_path, env={"A": {"$env": "B"}, "C": "c"})
    assert described.create_body({"B": "secret"})["env"] == {"A": "secret", "C": "c"}
    with pytest.raises(InvalidInput, match=r"env\.A: B is not set"):
        described.create_body({})


def test_what_is_no_object_is_refused(tmp_path):
    path = tmp_path / "endpoint.json"
    path.write_text("[]")
    with pytest.raises(InvalidInput, match=r"got array; allowed: one JSON object$"):
        EndpointFile.read(path)


@pytest.mark.parametrize(
    ("gpu", "error"),
    [
        ({"pools": ["ADA_48_PR"]}, "gpu.pools: got 'ADA_48_PR'; .* did you mean ADA_48_PRO?"),
        (
            {"pools": ["ADA_48_PRO"], "excluded_types": ["NVIDIA L4O"]},
            "gpu.excluded_types: got 'NVIDIA L4O'; .* did you mean NVIDIA L40?",
        ),
    ],
)
def test_what_the_catalog_does_not_have_names_the_nearest(tmp_path, gpu, error):
    with pytest.raises(InvalidInput, match=error):
        read(tmp_path, gpu=gpu).check_catalog(CATALOG)


def test_what_the_catalog_has_is_accepted(tmp_path):
    gpu = {"pools": ["ADA_48_PRO", "AMPERE_80"], "excluded_types": ["NVIDIA L40"]}
    read(tmp_path, gpu=gpu).check_catalog(CATALOG)


# Differences

CURRENT = {
    "name": "talking",
    "image": "registry.example.org/farm:old",
    "gpu": {
        "pools": ["ADA_48_PRO"],
        "count": 1,
        "allowedCudaVersions": [],
        "minCudaVersion": "12.4",
    },
    "workers": {"min": 0, "max": 3, "idleTimeout": 10},
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
    "timeout": 3_600_000,
    "env": {"A": "old", "GONE": "s3cr3t", "KEPT": "k"},
}


def test_only_what_differs_is_sent(tmp_path):
    env = {"A": "new", "KEPT": "k", "B": {"$env": "B"}}
    described = read(tmp_path, workers={"max": 5}, env=env)
    changed = changes(CURRENT, described.update_body({"B": "hunter22"}))
    assert changed.keys() == {"image", "gpu", "workers", "env"}
    assert changed["workers"] == {"max": 5}
    lines = list(describe_changes(CURRENT, changed, literals=described.literals))
    assert lines == [
        "image: registry.example.org/farm:old -> registry.example.org/farm:gpu",
        "gpu.minCudaVersion: 12.4 -> nothing",
        "workers.max: 3 -> 5",
        "env.A: old -> new",
        "env.GONE: *** -> nothing",
        "env.B: nothing -> ***",
    ]


def test_an_endpoint_as_the_file_describes_it_does_not_differ(tmp_path):
    described = read(
        tmp_path, image=CURRENT["image"], gpu={**FIELDS["gpu"], "min_cuda_version": "12.4"}
    )
    assert changes(CURRENT, described.update_body({})) == {}


def test_an_empty_environment_removes_all_variables(tmp_path):
    assert changes(CURRENT, read(tmp_path, env={}).update_body({}))["env"] == {}


def test_values_of_an_endpoints_variables_are_masked():
    assert masked(CURRENT)["env"] == dict.fromkeys(CURRENT["env"], "***")
