"""A run as a drawing: GPUs that are paid for, GPUs that are busy, and jobs, over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from farm.simulation.run import Sample

WIDTH = 900
HEIGHT = 360
MARGIN = 60
MAX_POINTS = 600

LINES: tuple[tuple[str, str, Callable[[Sample], int]], ...] = (
    ("jobs that are not done", "#b0b0b0", lambda sample: sample.jobs),
    ("GPUs paid for", "#d97706", lambda sample: sample.gpus),
    ("GPUs busy", "#1d4ed8", lambda sample: sample.busy),
)
"""Name, colour and value of each line."""


def svg(samples: Sequence[Sample], title: str) -> str:
    """An SVG image."""
    shown = samples[:: max(1, len(samples) // MAX_POINTS)]
    end = max(shown[-1].at, 1.0)
    top = max(1, *(value(sample) for _, _, value in LINES for sample in shown))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{MARGIN}" y="22" font-size="15">{title}</text>',
        *_axes(end / 3600, top),
    ]
    for number, (name, colour, value) in enumerate(LINES):
        points = " ".join(_point(sample.at / end, value(sample) / top) for sample in shown)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        x = MARGIN + 190 * number
        parts.append(f'<text x="{x}" y="44" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _point(x: float, y: float) -> str:
    """Shares of the width and the height, in the drawing's coordinates."""
    across = MARGIN + x * (WIDTH - 2 * MARGIN)
    down = HEIGHT - MARGIN + y * (2 * MARGIN - HEIGHT)
    return f"{across:.1f},{down:.1f}"


def _axes(hours: float, top: int) -> list[str]:
    bottom = HEIGHT - MARGIN
    right = WIDTH - MARGIN
    return [
        f'<path d="M{MARGIN},{MARGIN} V{bottom} H{right}" fill="none" stroke="black"/>',
        f'<text x="{MARGIN - 8}" y="{MARGIN + 5}" text-anchor="end">{top}</text>',
        f'<text x="{MARGIN - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{right}" y="{bottom + 20}" text-anchor="end">{hours:.1f} h</text>',
    ]
