"""The video autoencoder of full size on a GPU: our walk against diffusers' own.

    python -m benchmarks.autoencoder [--side 640] [--frames 81]

Random weights. Seconds are the median of three after one to warm up, errors relative L2 against
diffusers' walk in true float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from farm.model.bench import median_seconds
from farm.model.drawn import draw_part
from farm.model.vae import VideoAutoencoder
from farm.presets import INFINITETALK

MOTION_FRAMES = 9


def measure(title: str, run: Callable[[], Tensor], exact: Tensor) -> None:
    """Prints the seconds, the error and the peak memory of one way."""
    output = run()
    torch.cuda.reset_peak_memory_stats()
    took_s = median_seconds(run, "cuda", 3)
    repeated = run()
    error = float((output - exact).norm() / exact.norm())
    peak_gib = torch.cuda.max_memory_allocated() / 2**30
    same = "same bits" if torch.equal(output, repeated) else "OTHER BITS WHEN REPEATED"
    print(
        f"{title:32} {took_s:7.3f} s {error:9.1e} {peak_gib:6.1f} GiB  {same}",
        flush=True,
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--frames", type=int, default=81, help="4n + 1")
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__)
    side = options.side
    torch.manual_seed(0)
    model = draw_part("vae", INFINITETALK.parts["vae"], "cuda", dtype="float32")
    latents = torch.randn(16, 1 + options.frames // 4, side // 8, side // 8, device="cuda")
    video = torch.rand(3, options.frames, side, side, device="cuda") * 2 - 1
    motion = video[:, :MOTION_FRAMES]
    mean, std = (
        torch.tensor(each, device="cuda").view(1, 16, 1, 1, 1)
        for each in (model.config.latents_mean, model.config.latents_std)
    )

    def stock_decode() -> Tensor:
        return model.decode(latents[None] * std + mean).sample[0]

    def stock_encode(frames: Tensor) -> Tensor:
        return ((model.encode(frames[None]).latent_dist.mode() - mean) / std)[0]

    torch.backends.cudnn.allow_tf32 = False
    decoded, encoded, moved = stock_decode(), stock_encode(video), stock_encode(motion)
    torch.backends.cudnn.allow_tf32 = True
    measure("decode, diffusers", stock_decode, decoded)
    measure("encode, diffusers", lambda: stock_encode(video), encoded)
    measure(f"encode {MOTION_FRAMES} frames, diffusers", lambda: stock_encode(motion), moved)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        vae = VideoAutoencoder(model, latents_per_call=1, decoder_dtype=dtype)
        measure(f"decode, ours, {dtype}", lambda vae=vae: vae.decode(latents), decoded)
    measure("encode, ours", lambda: vae.encode(video), encoded)
    measure(f"encode {MOTION_FRAMES} frames, ours", lambda: vae.encode(motion), moved)


if __name__ == "__main__":
    main()
