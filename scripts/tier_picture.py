"""Draws a simulated day of the tiers as SVG: waits, refusals, and how full the global limit is. No library needed."""

from collections.abc import Iterator, Mapping, Sequence

COLOURS = {"vip": "#7b2cbf", "premium": "#d1495b", "pro": "#2274a5", "free": "#6a994e"}
WIDTH, LEFT, PANEL, GAP = 900, 70, 180, 50
Points = Sequence[tuple[float, float]]


def draw(
    waits: Mapping[str, Points],
    refused: Mapping[str, Sequence[float]],
    load: Sequence[tuple[float, int, int]],
    end: float,
    limit: int,
) -> str:
    """The picture as text: three panels over the same hours."""
    most = max([60.0, *(wait for points in waits.values() for _, wait in points)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {3 * (PANEL + GAP) + 30}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    parts += _panel(0, "wait until the start, minutes", most / 60, end)
    for tier, points in waits.items():
        spots = (f"M{_x(at, end):.1f} {_y(0, wait, most):.1f}h.01" for at, wait in points)
        parts.append(
            f'<path d="{"".join(spots)}" stroke="{COLOURS[tier]}" stroke-width="3" stroke-linecap="round"/>'
        )
    counts = {tier: _by_hour(times, end) for tier, times in refused.items()}
    highest = max([1, *(n for hours in counts.values() for n in hours)])
    parts += _panel(1, "refused requests per twentieth of the time", highest, end)
    for place, (tier, hours) in enumerate(counts.items()):
        for number, count in enumerate(hours):
            x = LEFT + (WIDTH - LEFT - 20) / len(hours) * (number + place / 5)
            y = _y(1, count, highest)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="7" height="{_y(1, 0, 1) - y:.1f}" fill="{COLOURS[tier]}"/>'
            )
    parts += _panel(2, "jobs of all tiers but VIP that run, of the global limit", limit, end)
    line = " ".join(f"{_x(at, end):.1f},{_y(2, running, limit):.1f}" for at, running, _ in load)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#333"/>')
    for place, tier in enumerate(waits):
        x, y = LEFT + 120 * place, 3 * (PANEL + GAP) + 5
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[tier]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 11}">{tier}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(number: int, title: str, most: float, end: float) -> Iterator[str]:
    top, bottom = _y(number, 1, 1), _y(number, 0, 1)
    yield f'<text x="{LEFT}" y="{top - 8:.0f}" font-weight="bold">{title}</text>'
    yield f'<path d="M{LEFT} {top:.0f}V{bottom:.0f}H{WIDTH - 20}" fill="none" stroke="#999"/>'
    yield f'<text x="{LEFT - 6}" y="{top + 10:.0f}" text-anchor="end">{most:.0f}</text>'
    for quarter in range(5):
        at = end * quarter / 4
        yield f'<text x="{_x(at, end):.0f}" y="{bottom + 14:.0f}" text-anchor="middle">{at / 3600:.1f} h</text>'


def _x(at: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - 20) * at / end


def _y(panel: int, value: float, most: float) -> float:
    top = 30 + panel * (PANEL + GAP)
    return top + PANEL * (1 - value / most)


def _by_hour(times: Sequence[float], end: float, parts: int = 20) -> list[int]:
    found = [0] * parts
    for at in times:
        found[min(parts - 1, int(at / end * parts))] += 1
    return found
