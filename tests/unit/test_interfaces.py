"""The public interface is small and light to import, and packages know only what they need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import farm

HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "librosa",
    "gradio",
    "av",
    "scipy",
    "numba",
    "PIL",
    "pyloudnorm",
    "runpod",
    "aiohttp",
    "starlette",
    "uvicorn",
}
MAX_IMPORT_RATIO = 8
"""How much longer than pydantic the client may take to import, whose models it builds."""

INTERFACES = [
    "farm.client",
    "farm.cli",
    "farm.client.transports.celery",
    "farm.client.runpod.farm",
]


def python(program: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )


def packages_after(program: str, **environ: str) -> set[str]:
    """The top-level packages that are loaded after a program."""
    listing = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(python(f"{program}; {listing}", **environ).stdout.split())


def import_s(module: str) -> float:
    """Processor time; on a busy machine it grows too, for all modules alike."""
    timed = (
        "from time import process_time as now; start = now(); "
        f"import {module}; print(now() - start)"
    )
    return float(python(timed).stdout)


# Names


def test_the_public_names_are_these():
    assert farm.__all__ == [
        "Estimate",
        "Event",
        "Farm",
        "FarmError",
        "Job",
        "JobRequest",
        "JobStatus",
        "Result",
    ]


@pytest.mark.parametrize("name", farm.__all__)
def test_a_public_name_is_that_of_its_class(name):
    assert getattr(farm, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'farm' has no attribute 'Barn'"):
        _ = farm.Barn


# Imports


def test_the_package_itself_loads_nothing():
    assert not packages_after("import farm") & {*HEAVY, "pydantic", "celery", "redis"}


def test_the_client_is_imported_quickly():
    client, library = (
        min(import_s(name) for _ in range(3)) for name in ("farm.client", "pydantic.main")
    )
    assert client < MAX_IMPORT_RATIO * library


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_interface_loads_nothing_heavy(interface):
    assert not packages_after(f"import {interface}") & HEAVY


@pytest.mark.parametrize("interface", [*INTERFACES, "farm.local.supervisor"])
def test_an_interface_does_not_load_the_metrics_library(interface):
    assert "prometheus_client" not in packages_after(f"import {interface}")


def test_the_gateway_loads_nothing_heavy():
    program = "import farm.cli, farm.gateway.app, farm.gateway.server"
    loaded = packages_after(program)
    assert loaded & HEAVY == {"starlette", "uvicorn"}
    assert not loaded & {"fastapi", "prometheus_client"}


def test_the_task_modules_do_not_load_the_model():
    program = "from farm.tasks.celery import app; app.loader.import_default_modules()"
    loaded = packages_after(program, FARM_BROKER_URL="redis://127.0.0.1:1/0")
    assert "celery" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "prometheus_client"}


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        (
            "farm.model.pipeline",
            "celery redis kombu pydantic minio gradio prometheus_client runpod",
        ),
        ("farm.media.probe", "celery redis kombu pydantic torch"),
        ("farm.plan", "celery redis kombu pydantic torch numpy"),
    ],
)
def test_a_module_can_be_imported_without_what_it_does_not_need(module, foreign):
    # None in sys.modules refuses an import.
    refuse = f"import sys; sys.modules.update(dict.fromkeys({foreign.split()!r}))"
    assert python(f"{refuse}; import {module}; print('imported')").stdout == "imported\n"


def test_importing_an_interface_creates_no_file(tmp_path):
    program = "import farm.client, farm.cli, farm.local.supervisor"
    python(program, HOME=str(tmp_path), FARM_HOME=str(tmp_path / "farm"))
    assert list(tmp_path.iterdir()) == []
