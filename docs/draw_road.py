"""Draw the picture of the road in README: `docs/road.svg` and `docs/road.png`.

    python docs/draw_road.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

BLUE, ORANGE, GREEN, INK = "#d6e6f4", "#fbe3cf", "#d5ece1", "#1d2733"
ROAD = (  # x, width, heading, lines, colour
    (0.0, 2.05, "Keras model", "a classifier,\nor PathoNet", BLUE),
    (2.55, 2.05, "prune", "optional:\nsmall weights to 0,\nor filters removed",
     BLUE),
    (5.1, 2.05, "share weights", "each weight takes\none of k values:\ncodebook + index map",
     BLUE),
    (7.65, 2.05, "fine-tune", "the shared values\nlearn, from labels or\nthe original's answers",
     BLUE),
    (10.2, 2.05, "one .h5", "entropy-coded,\nchecksummed,\n3 execution plans", ORANGE),
    (12.75, 2.05, "runtime", "LiteRT: predict, page,\nbench; no TensorFlow", ORANGE),
)
PROOF = (
    (2.55, 3.3, "your test images",
     "both models answer; looked at\nonce, split by patient", GREEN),
    (6.6, 3.3, "paired differences",
     "AUROC, F1, calibration, changed\ndecisions; n and 95% intervals", GREEN),
    (10.65, 4.15, "verdict per class, and a report",
     "non-inferior, inferior or undecided", GREEN),
)


def box(axes, x: float, y: float, width: float, height: float, heading: str, text: str,
        colour: str) -> None:
    """One step: a heading and what happens in it."""
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12",
                                  facecolor=colour, edgecolor=INK, linewidth=1))
    axes.text(x + width / 2, y + height - 0.2, heading, ha="center", va="top", fontsize=11.5,
              fontweight="bold", color=INK)
    axes.text(x + width / 2, y + (height - 0.5) / 2, text, ha="center", va="center", fontsize=8.7,
              color=INK, linespacing=1.35)


def arrow(axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one step to the next."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.4,
                                              "shrinkA": 1, "shrinkB": 1})


def draw() -> plt.Figure:
    """The road above, the proof below it."""
    figure, axes = plt.subplots(figsize=(12, 3.2))
    top, high, low, flat = 2.35, 1.45, 0.15, 1.0
    for x, width, heading, text, colour in ROAD:
        box(axes, x, top, width, high, heading, text, colour)
    for (x, width, *_), (following, *_) in zip(ROAD, ROAD[1:], strict=False):
        arrow(axes, (x + width, top + high / 2), (following, top + high / 2))
    for x, width, heading, text, colour in PROOF:
        box(axes, x, low, width, flat, heading, text, colour)
    for (x, width, *_), (following, *_) in zip(PROOF, PROOF[1:], strict=False):
        arrow(axes, (x + width, low + flat / 2), (following, low + flat / 2))
    # The original and the compressed file both go to the proof.
    middle = (top + low + flat) / 2
    first = PROOF[0][0] + 0.6
    axes.plot([1.0, 1.0, first], [top, middle, middle], color=INK, linewidth=1.4)
    axes.plot([11.2, 11.2, first], [top, middle, middle], color=INK, linewidth=1.4)
    arrow(axes, (first, middle), (first, low + flat))
    axes.text(1.15, middle + 0.08, "original", fontsize=9, color=INK)
    axes.text(11.05, middle + 0.08, "compressed", fontsize=9, color=INK, ha="right")
    axes.set_xlim(-0.1, 14.9)
    axes.set_ylim(0.02, 3.94)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure


if __name__ == "__main__":
    plt.rcParams["svg.hashsalt"] = "road"
    road = draw()
    folder = Path(__file__).parent
    road.savefig(folder / "road.svg", facecolor="white", metadata={"Date": None})
    road.savefig(folder / "road.png", facecolor="white", dpi=110)
