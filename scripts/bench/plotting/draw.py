"""Draws lines.jsonl of a directory as speed.png, latency.png and the same as SVG. Runs in matplotlib's environment.

Usage: python -m scripts.bench.plotting.draw DIRECTORY
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot

LATENCY = ("W4", "W8", "T1")
Runs = Sequence[Mapping[str, Any]]


def main() -> None:
    """Read lines.jsonl of a directory and put plots beside it."""
    place = Path(sys.argv[1])
    lines = [json.loads(line) for line in (place / "lines.jsonl").read_text().splitlines()]
    lines = [line for line in lines if not line["void"]]
    _speed(
        place,
        [one for one in lines if one["jobs_s"] is not None and one["workload"] not in (*LATENCY, "W9")],
    )
    _latency(place, [one for one in lines if one["p95_ms"] is not None and one["workload"] in LATENCY])


def _speed(place: Path, lines: Runs) -> None:
    """One panel per form of a workload, one bar per peer: the median, and the range of the runs."""
    forms = sorted({_form(one) for one in lines})
    if not forms:
        return
    columns = min(3, len(forms))
    rows = -(-len(forms) // columns)
    figure, axes = plot.subplots(rows, columns, figsize=(5 * columns, 2.6 * rows), squeeze=False)
    for panel in axes.flat[len(forms) :]:
        panel.axis("off")
    for panel, form in zip(axes.flat, forms, strict=False):
        _bars(panel, form, _by_peer(lines, form, "jobs_s"), "jobs/s")
    _save(figure, place / "speed")


def _latency(place: Path, lines: Runs) -> None:
    forms = sorted({_form(one) for one in lines})
    if not forms:
        return
    figure, axes = plot.subplots(1, len(forms), figsize=(5 * len(forms), 3), squeeze=False)
    for panel, form in zip(axes.flat, forms, strict=True):
        _bars(panel, form, _by_peer(lines, form, "p95_ms"), "p95 ms, enqueue call to handler")
    _save(figure, place / "latency")


def _form(line: Mapping[str, Any]) -> str:
    groups = f" {line['variant']}" if line["workload"].startswith("T") and line["variant"] else ""
    workers, connections = int(line["workers"]), int(line["conns"])
    return (
        f"{line['workload']}{groups} {workers} worker{'s' * (workers != 1)} "
        f"{connections} connection{'s' * (connections != 1)}"
    )


def _by_peer(lines: Runs, form: str, figure: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in lines:
        if _form(one) == form:
            name = one["peer"] + (
                f" ({one['variant']})" if one["variant"] and not one["workload"].startswith("T") else ""
            )
            found.setdefault(name, []).append(one[figure])
    return found


def _bars(panel: Any, title: str, found: Mapping[str, Sequence[float]], unit: str) -> None:
    names = sorted(found, key=lambda name: statistics.median(found[name]))
    middles = [statistics.median(found[name]) for name in names]
    below = [middle - min(found[name]) for name, middle in zip(names, middles, strict=True)]
    above = [max(found[name]) - middle for name, middle in zip(names, middles, strict=True)]
    colours = [_colour(name) for name in names]
    panel.barh(names, middles, xerr=[below, above], color=colours, ecolor="#555555", capsize=2)
    # The slowest of ten have bars too short to see: the figure says what they are.
    for place, (middle, more) in enumerate(zip(middles, above, strict=True)):
        text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
        panel.annotate(
            text, (middle + more, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7
        )
    panel.margins(x=0.15)
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(unit, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _colour(name: str) -> str:
    """Ours, what the server can do without a queue, and the peers."""
    if name.startswith("tandem"):
        return "#1f6f8b"
    return "#d9b26f" if name == "floor" else "#b8c4cc"


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    for ending in ("png", "svg"):
        figure.savefig(path.with_suffix(f".{ending}"), dpi=130)


if __name__ == "__main__":
    main()
