"""What people write on the command line for a span of time and for a rate. Raises BadParameter: exit code 2."""

import re
from datetime import timedelta

import typer

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smhd])\Z")
_RATE = re.compile(r"(?P<number>[0-9]{1,6}(\.[0-9]{1,3})?)(/(?P<unit>[smh]))?\Z")


def parse_age(text: str) -> timedelta:
    """`90s`, `15m`, `12h`, `7d`."""
    found = _AGE.match(text)
    if found is None:
        raise typer.BadParameter("write an age like 90s, 15m, 12h or 7d")
    return timedelta(seconds=int(found["number"]) * _UNITS[found["unit"]])


def parse_rate(text: str) -> float:
    """`10/s`, `300/m`, `50` (per second), as a number per second."""
    found = _RATE.match(text)
    if found is None or float(found["number"]) == 0:
        raise typer.BadParameter("write a rate like 10/s or 300/m")
    return float(found["number"]) / _UNITS[found["unit"] or "s"]
