"""scripts/simulate_tiers: a short stretch of traffic keeps every promise, and the picture is a picture."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts import tier_simulation


def test_a_stretch_of_traffic_keeps_the_promises(
    db_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "tiers.svg"
    arguments = ["--hours", "0.5", "--seed", "3", "--database", db_url, "--picture", str(picture), "--json"]
    code = tier_simulation.main(arguments)
    *table, told = capsys.readouterr().out.splitlines()
    report = json.loads(told)
    assert code == 0, table
    assert all(report["kept"].values())
    assert {tier for tier, one in report["tiers"].items() if one["started"]} == {
        "vip",
        "premium",
        "pro",
        "free",
    }
    assert report["tiers"]["vip"]["wait_most_s"] == 0
    drawn = ElementTree.parse(picture).iter()  # noqa: S314 - our own
    assert sum(one.get("font-weight") == "bold" for one in drawn) == 3, "three panels"
