"""Draws docs/performance.svg and writes the tables of docs/performance.md from what was measured.

`python -m tests.bench.picture [FOLDER]`, after `anatomy` and `compare` have kept their numbers in that folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.anatomy import HOST, SENDER

ROOT = Path(__file__).parents[2]
#: Shades for the steps in the sender, between the two, and in the host.
BLUES = ("#08306b", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef")
GREENS = ("#00441b", "#006d2c", "#238b45", "#41ab5d", "#74c476", "#a1d99b", "#c7e9c0", "#e5f5e0")
BETWEEN = "#e6850e"
OURS, OTHERS = "#2171b5", "#b0b0b0"


def hop(axes: Any, anatomies: list[dict[str, Any]]) -> None:
    """One bar a durability, a piece a step."""
    steps = [step for step, *_ in (*SENDER, *HOST)]
    shades = [*BLUES[: len(SENDER)], BETWEEN, *GREENS[: len(HOST) - 1]]
    names = [f"durability={one['durability']}" for one in anatomies]
    left = [0.0] * len(anatomies)
    for step, shade in zip(steps, shades, strict=True):
        spent = [one["steps"][step] / 1000 for one in anatomies]
        axes.barh(names, spent, left=left, color=shade, label=step, edgecolor="white", linewidth=0.6)
        left = [a + b for a, b in zip(left, spent, strict=True)]
    for name, one, end in zip(names, anatomies, left, strict=True):
        axes.text(end, name, f"  the whole: {one['hop_us'] / 1000:.1f} ms", va="center", fontsize=9)
    axes.set_title(
        "One hop, send() to handler. Blue: sender, orange: the disk between, green: host",
        loc="left",
    )
    axes.set_xlabel(
        "milliseconds, median of each step; behind it the median of the whole, which is more where a step's times vary"
    )
    axes.set_xlim(0, max(left) * 1.2)
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


def contestants(rows: list[dict[str, Any]]) -> str:
    lines = ["| | hop p50 ms | p95 | p99 | a second | CPU ms a message |", "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        if row.get("per_second"):
            times = " | ".join(f"{row[name]:.1f}" for name in ("p50", "p95", "p99"))
            lines.append(f"| {row['what']} | {times} | {row['per_second']:,.0f} | {row['cpu_ms']:.2f} |")
    return "\n".join(lines)


def figures(rows: list[dict[str, Any]]) -> str:
    lines = ["| | measured | goal | |", "|---|--:|---|---|"]
    for row in rows:
        if row.get("per_second"):
            continue
        times = "" if row["p50"] is None else f"p50 {row['p50']:.1f} · p99 {row['p99']:.1f} ms"
        lines.append(f"| {row['what'].strip()} | {row['value'] or times} | {row['target']} | {MET[row['met']]} |")
    return "\n".join(lines)


MET = {None: "", True: "met", False: "**missed**"}


def steps(anatomies: list[dict[str, Any]]) -> str:
    lines = [f"| step | {' | '.join(one['durability'] for one in anatomies)} |", "|---|" + "--:|" * len(anatomies)]
    for step, *_ in (*SENDER, *HOST):
        lines.append(f"| {step} | {' | '.join(micros(one['steps'][step]) for one in anatomies)} |")
    lines.append(f"| **the hop** | {' | '.join(micros(one['hop_us']) for one in anatomies)} |")
    return "\n".join(lines)


def micros(value: float) -> str:
    return f"{value:,.0f} µs"


def fill(text: str, mark: str, inside: str) -> str:
    """Put `inside` between the marks `<!-- mark -->` and `<!-- /mark -->`."""
    before, opening, rest = text.partition(f"<!-- {mark} -->\n")
    _, closing, after = rest.partition(f"<!-- /{mark} -->")
    if not opening or not closing:
        raise SystemExit(f"docs/performance.md has no place for {mark}")
    return f"{before}{opening}\n{inside}\n\n{closing}{after}"


def draw(anatomies: list[dict[str, Any]], rows: list[dict[str, Any]], *targets: Path) -> None:
    """Needs the extra `bench`."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "tailrace", "font.size": 9, "axes.titlesize": 10, "svg.fonttype": "none"})
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 8.2), height_ratios=(1, 2.2), layout="constrained")
    hop(above, anatomies)
    cost(below, rows)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    for target in targets:
        figure.savefig(target, dpi=110, metadata={"Date": None} if target.suffix == ".svg" else None)


def main() -> None:
    kept = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bench"
    anatomies = json.loads((kept / "anatomy.json").read_text())
    measured = json.loads((kept / "bus.json").read_text())
    rows = measured["measurements"]
    target = ROOT / "docs" / "performance.svg"
    draw(anatomies, rows, target, kept / "performance.png")
    machine = measured["machine"]
    where = f"{machine['cores']} cores, Python {machine['python']}, load average {machine['load']:.0f} when it began."
    page = ROOT / "docs" / "performance.md"
    text = fill(page.read_text(), "measured", f"{where}\n\n{contestants(rows)}\n\n{figures(rows)}")
    page.write_text(fill(text, "anatomy", steps(anatomies)))
    print(f"drawn: {target}, written: {page}")


if __name__ == "__main__":
    main()
