"""Attention kernels that diffusers does not know, for the video's self-attention.

    flash_4     FlashAttention 4 of the package flash-attn-4, exact
    cudnn_fp8   cuDNN's of float8 (e4m3) through the package nvidia-cudnn-frontend

Float8 attention errs by 5 to 27 % as it is, mostly because its sums lose the mean that the values
have in common. An attention's weights sum to 1, so a constant may be taken from the values before
and added after: with the mean over all tokens the error of a pass is bfloat16's.

Shapes: B batch, L tokens, H heads, D channels of a head.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from farm.model.fused import FORMATS, Rounding, Tokens, scale_columns

FLASH_4 = "flash_4"
CUDNN_FP8 = "cudnn_fp8"

FLOAT8, LARGEST = FORMATS["fp8"]

SCALE_OF_WEIGHTS = 256.0
"""Attention weights are at most 1; in float8 they are held as at most this."""

SCALES = {
    "descale_q": 1.0,
    "descale_k": 1.0,
    "descale_v": 1.0,
    "descale_s": 1 / SCALE_OF_WEIGHTS,
    "scale_s": SCALE_OF_WEIGHTS,
    "scale_o": 1.0,  # outputs lie among the values, whose largest is the format's
}

SCALAR = {"dim": [1, 1, 1, 1], "stride": [1, 1, 1, 1]}
"""The layout of one number in cuDNN's graphs."""


def flash_4(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The attention [B, L, H, D]."""
    from flash_attn.cute import flash_attn_func

    output = flash_attn_func(query, key, value)
    return output[0] if isinstance(output, tuple) else output


def attend_fp8(
    query: Tensor, key: Tensor, value: Tensor, rounding: Rounding | None = None
) -> Tokens:
    """The attention [B, L, H D], rounded again for the next product if asked.

    Queries and keys are normalised, so their own values are in float8's range.
    """
    batch, length, heads, dim = query.shape
    columns = value.flatten(2)
    centre = columns.mean((0, 1), dtype=torch.float32)
    reach = torch.linalg.vector_norm(columns, float("inf"), dim=(0, 1))
    scale = (reach.float() + centre.abs()).clamp(min=1e-12) / LARGEST
    values = cast(Tensor, scale_columns(columns, 1 / scale, -centre / scale, dtype=FLOAT8))
    graph = _graph(query.device, batch, length, key.shape[1], heads, dim)
    output = graph(query.to(FLOAT8), key.to(FLOAT8), values.view(value.shape))
    return scale_columns(output.flatten(2), scale, centre, dtype=query.dtype, rounding=rounding)


@cache
def _graph(
    device: torch.device, batch: int, length: int, keys: int, heads: int, dim: int
) -> _Fp8Graph:
    return _Fp8Graph(device, batch, length, keys, heads, dim)


class _Fp8Graph:
    """cuDNN's float8 attention of one size; its outputs are float8 in the scale of the values."""

    def __init__(
        self, device: torch.device, batch: int, length: int, keys: int, heads: int, dim: int
    ) -> None:
        import cudnn

        float8, float32 = cudnn.data_type.FP8_E4M3, cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=float8, intermediate_data_type=float32, compute_data_type=float32
        )
        layouts = {"q": length, "k": keys, "v": keys}
        inputs = {
            name: graph.tensor(name=name, **_layout(batch, count, heads, dim), data_type=float8)
            for name, count in layouts.items()
        }
        scales = {name: graph.tensor(name=name, **SCALAR, data_type=float32) for name in SCALES}
        self._output, _, *largest = graph.sdpa_fp8(
            **inputs,
            **scales,
            attn_scale=dim**-0.5,
            use_causal_mask=False,
            generate_stats=False,
        )
        _set_output(self._output, _layout(batch, length, heads, dim), float8)
        for each in largest:
            _set_output(each, SCALAR, float32)
        _build(graph, cudnn.heur_mode.A)
        self._graph = graph
        self._inputs = list(inputs.values())
        values = {scales[name]: value for name, value in SCALES.items()}
        self._constants = {
            each: torch.full(SCALAR["dim"], value, device=device)
            for each, value in {**values, **dict.fromkeys(largest, 0.0)}.items()
        }
        size = graph.get_workspace_size()
        self._workspace = torch.empty(size, device=device, dtype=torch.uint8)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        inputs = dict(zip(self._inputs, (query, key, value), strict=True))
        self._graph.execute({**inputs, **self._constants, self._output: output}, self._workspace)
        return output


def _layout(batch: int, count: int, heads: int, dim: int) -> dict[str, list[int]]:
    """Tokens [B, L, H, D] as cuDNN sees them: sizes of B, H, L, D, and their strides."""
    return {
        "dim": [batch, heads, count, dim],
        "stride": [count * heads * dim, dim, heads * dim, 1],
    }


def _set_output(symbol: Any, layout: dict[str, list[int]], dtype: Any) -> None:
    symbol.set_output(True).set_dim(layout["dim"])
    symbol.set_stride(layout["stride"]).set_data_type(dtype)


def _build(graph: Any, heuristic: Any) -> None:
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([heuristic])
    graph.check_support()
    graph.build_plans()
