"""One pass of the 14-billion-parameter transformer by every option: seconds, error, memory.

    python -m benchmarks.one_pass [--layers 40] [--calls 3] [--profile]

Random weights are drawn on the GPU; nothing is read or written. The first row is plain torch
without our kernels, with keys and values computed anew in each pass; all others use them. Errors
are relative L2 to the same weights in float32. `--profile` lists the kernels of some rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from farm.errors import FarmError
from farm.model import fused
from farm.model.attention import set_attention_backend
from farm.model.bench import median_seconds, pass_inputs, profile
from farm.model.block_attention import Context, Kept, fold_audio_attention
from farm.model.drawn import DrawnWeights, draw_part
from farm.model.variant import Variant, Variants
from farm.presets import INFINITETALK

FRAMES = 81


@dataclass(frozen=True)
class Option:
    attention: str = "native"
    quant: str | None = None
    fold_audio: bool = False
    kernels: bool = True
    speakers: int = 1
    side: int = 640
    streamed: bool = False

    def __str__(self) -> str:
        parts = [self.quant or "bf16", self.attention]
        parts += ["audio folded"] * self.fold_audio
        parts += ["plain torch"] * (not self.kernels)
        parts += ["two speakers"] * (self.speakers == 2)
        parts += ["streamed"] * self.streamed
        return ", ".join(parts) + f", {self.side}x{self.side}"


PLAIN = Option(kernels=False)
OPTIONS = (
    PLAIN,
    Option(kernels=False, speakers=2),
    Option(),
    Option("flash_4"),
    Option("flash_4", speakers=2),
    Option("flash_4", fold_audio=True),
    Option("flash_4", "int8"),
    Option("flash_4", "int8", fold_audio=True),
    Option("cudnn_fp8", "int8", fold_audio=True),
    Option("native", "int8"),
    Option("native", "fp8"),
    Option("cudnn_fp8"),
    Option("flash_4", "fp8"),
    Option("flash_4", "fp8", fold_audio=True),
    Option("cudnn_fp8", "fp8"),
    Option("cudnn_fp8", "fp8", fold_audio=True),
    Option("cudnn_fp8", "fp8", speakers=2),
    Option("cudnn_fp8", "fp8", side=960),
    Option(side=960),
    Option("cudnn_fp8", "fp8", streamed=True),
    Option(streamed=True),
)
PROFILED = (Option("flash_4"), Option("native", "int8"), Option("cudnn_fp8", "fp8"))


def inputs(config: Any, side: int, speakers: int) -> dict[str, Any]:
    """Noise in the shapes of a chunk's."""
    return pass_inputs(config, side, side, FRAMES, device="cuda", speakers=speakers)


@contextmanager
def plain_torch(is_plain: bool) -> Iterator[None]:
    """Without our kernels, if asked."""
    takes_kernels = fused.takes_kernels
    if is_plain:
        fused.takes_kernels = lambda _: False
    try:
        yield
    finally:
        fused.takes_kernels = takes_kernels


class InFloat32(nn.Module):
    """A block in float32, for as long as a call takes."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, context: Context, temb: Tensor, *others: Any) -> Tensor:
        rope, audio, regions, *_ = others
        block = deepcopy(self.block).float()
        context = context._replace(text=context.text.float(), image=context.image.float())
        return block(x.float(), context, temb, rope, audio.float(), regions)


def exact_prediction(model: Any, given: dict[str, Any]) -> Tensor:
    """With every block in float32 and efficient attention; products may be TF32."""
    blocks = model.blocks
    set_attention_backend(model, "_native_efficient", "cuda")
    torch.backends.cuda.matmul.allow_tf32 = True
    model.blocks = nn.ModuleList(InFloat32(block) for block in blocks)
    try:
        with plain_torch(True):
            return model(**given)
    finally:
        model.blocks = blocks
        torch.backends.cuda.matmul.allow_tf32 = False


def print_kernels(call: Callable[[], object]) -> None:
    """The kernels that take most of a call."""
    for kernel in profile(call, "cuda"):
        print(f"{kernel.total_ms:12.1f} ms {kernel.count:6} x {kernel.name[:90]}")


def differs(tensor: Tensor, reference: Tensor) -> float:
    """Relative L2."""
    return float((tensor - reference).norm() / reference.norm())


def measure(
    model: Any,
    variants: dict[bool, Variants],
    option: Option,
    exact: Tensor | None,
    options: Any,
) -> None:
    """Prints a row of the table."""
    variants[not option.fold_audio].switch(Variant())
    fold_audio_attention(model, is_folded=option.fold_audio)
    variants[option.fold_audio].switch(
        Variant(quant=option.quant, resident_parameters=0 if option.streamed else None)
    )
    set_attention_backend(model, option.attention, "cuda")
    given = inputs(model.config, option.side, option.speakers)
    kept: Kept | None = {} if option.kernels and not option.streamed else None
    torch.cuda.reset_peak_memory_stats()

    def call() -> Tensor:
        return model(**given, kept=kept)

    with plain_torch(not option.kernels):
        began = time.perf_counter()
        output = call()
        torch.cuda.synchronize()
        first_s = time.perf_counter() - began
        bits = "same bits" if torch.equal(output, call()) else "OTHER BITS"
        call()
        took_s = median_seconds(call, "cuda", options.calls)
    peak_gib = torch.cuda.max_memory_allocated() / 2**30
    error = f"{differs(output, exact):.2e}" if exact is not None else "-"
    print(
        f"{option!s:58} {took_s:7.3f} s  error {error:9} {peak_gib:5.1f} GiB  {bits}, "
        f"first {first_s:.1f} s",
        flush=True,
    )
    if options.profile and option in PROFILED:
        print_kernels(call)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""], help="rows whose title has one of these")
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    config = {**INFINITETALK.parts["transformer"], "num_layers": options.layers}
    model = draw_part("transformer", config, "cuda", dtype="bfloat16")
    base = DrawnWeights(model, "cuda")
    variants = {}
    for is_folded in (False, True):  # which weights are quantised depends on it
        fold_audio_attention(model, is_folded=is_folded)
        variants[is_folded] = Variants(model, base, "cuda")
        variants[is_folded].switch(Variant())
    fold_audio_attention(model, is_folded=False)
    exact = exact_prediction(model, inputs(model.config, 640, 1))
    for option in OPTIONS:
        if not any(each in str(option) for each in options.only):
            continue
        comparable = (option.side, option.speakers) == (640, 1)
        try:
            measure(model, variants, option, exact if comparable else None, options)
        except (FarmError, RuntimeError) as error:
            print(f"{option!s:58} {type(error).__name__}: {str(error)[:300]}", flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
