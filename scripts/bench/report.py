"""Shows lines as they come, and at the end medians and ratios as a Markdown table and plots."""

import sys

from scripts.bench.results import Line


def show(line: Line, *, as_json: bool) -> None:
    """One run, for programs or people."""
    if as_json:
        sys.stdout.write(line.as_json() + "\n")
        sys.stdout.flush()
        return
    figures = ", ".join(f"{k} {v}" for k, v in figures_of(line).items())
    print(
        f"{line.column:14} {line.peer:16} {figures}{'  VOID: ' + line.void if line.void else ''}", flush=True
    )


def figures_of(line: Line) -> dict[str, str]:
    """What is set, as short texts."""
    names = ("jobs_s", "p50_ms", "p95_ms", "p99_ms", "ratio", "backlog")
    found = {name: getattr(line, name) for name in names}
    return {
        name: f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
        for name, value in found.items()
        if value is not None
    }


def write(lines: list[Line], arguments: list[str]) -> None:
    """Placeholder until the table is written."""
