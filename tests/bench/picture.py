"""Draws docs/performance.svg from what `anatomy` and `compare` measured: `python -m tests.bench.picture [FOLDER]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from tests.bench.anatomy import HOST, SENDER

ROOT = Path(__file__).parents[2]
#: Shades for the steps in the sender, and in the host.
BLUES = ("#08306b", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef")
GREENS = ("#00441b", "#006d2c", "#238b45", "#41ab5d", "#74c476", "#a1d99b", "#c7e9c0", "#e5f5e0")
OURS, OTHERS = "#2171b5", "#b0b0b0"


def hop(axes: Any, anatomies: list[dict[str, Any]]) -> None:
    """One bar a durability, a piece a step."""
    steps = [step for step, *_ in (*SENDER, *HOST)]
    shades = [*BLUES[: len(SENDER)], *GREENS[: len(HOST)]]
    names = [f"durability={one['durability']}" for one in anatomies]
    left = [0.0] * len(anatomies)
    for step, shade in zip(steps, shades, strict=True):
        spent = [one["steps"][step] / 1000 for one in anatomies]
        axes.barh(names, spent, left=left, color=shade, label=step, edgecolor="white", linewidth=0.6)
        left = [a + b for a, b in zip(left, spent, strict=True)]
    for name, one, end in zip(names, anatomies, left, strict=True):
        axes.text(end, name, f"  {one['hop_us'] / 1000:.1f} ms", va="center", fontsize=9)
    axes.set_title("One hop: from send() to the handler in another process (blue: sender, green: host)", loc="left")
    axes.set_xlabel("milliseconds, median of each step")
    axes.set_xlim(0, max(left) * 1.1)
    axes.legend(ncol=3, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    axes.invert_yaxis()


def cost(axes: Any, rows: list[dict[str, Any]]) -> None:
    """What a message costs: processor time of all processes."""
    shown = sorted((row for row in rows if row.get("cpu_ms")), key=lambda row: row["cpu_ms"])
    names = [row["what"] for row in shown]
    colors = [OURS if name.startswith("Tailrace") else OTHERS for name in names]
    bars = axes.barh(names, [row["cpu_ms"] for row in shown], color=colors)
    axes.bar_label(bars, [f" {row['cpu_ms']:.2f} ms · {row['per_second']:,.0f}/s" for row in shown], fontsize=8)
    axes.set_title("Processor time of one message, handled and receipted (all processes, servers included)", loc="left")
    axes.set_xlabel("milliseconds; behind it, messages a second in the same run")
    axes.set_xlim(0, max(row["cpu_ms"] for row in shown) * 1.3)
    axes.invert_yaxis()


def main() -> None:
    kept = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bench"
    anatomies = json.loads((kept / "anatomy.json").read_text())
    rows = json.loads((kept / "bus.json").read_text())["measurements"]
    mpl.rcParams.update({"svg.hashsalt": "tailrace", "font.size": 9, "axes.titlesize": 10, "svg.fonttype": "none"})
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 8.2), height_ratios=(1, 2.2), layout="constrained")
    hop(above, anatomies)
    cost(below, rows)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    target = ROOT / "docs" / "performance.svg"
    figure.savefig(target, metadata={"Date": None})
    figure.savefig(kept / "performance.png", dpi=110)
    print(f"drawn: {target}")


if __name__ == "__main__":
    main()
