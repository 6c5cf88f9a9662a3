"""scripts/failover: a real failover is measured and nothing is lost; a loss or a long outage is not called good."""

import json

import pytest

from scripts import failover_probe
from scripts.failover_probe import Round

GOOD = Round(1.5, 2.0, 3.0, acknowledged=100, unknown=3, lost=0, missing=0)


@pytest.mark.chaos
def test_a_failover_has_an_outage_and_no_loss(
    capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    programs = pytestconfig.getoption("--pg-bin")
    where = ["--pg-bin", str(programs)] if programs else []
    code = failover_probe.main(["--rounds", "1", "--load-seconds", "0.5", "--rate", "20", "--json", *where])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    (only,) = report["rounds"]
    assert (code, report["lost"]) == (0, 0), report
    assert only["unknown"] > 0, "nobody noticed that the primary was gone"
    assert only["publish_outage_s"] >= only["detected_s"] > 0, (
        "nobody can publish before the death is noticed"
    )
    assert only["acknowledged"] >= 20


@pytest.mark.parametrize(
    "bad",
    [
        Round(1.5, 2.0, 3.0, acknowledged=100, unknown=3, lost=1, missing=0),
        Round(1.5, 2.0, 3.0, acknowledged=100, unknown=3, lost=0, missing=1),
        Round(1.5, 61.0, 3.0, acknowledged=100, unknown=3, lost=0, missing=0),
        Round(1.5, 2.0, 61.0, acknowledged=100, unknown=3, lost=0, missing=0),
    ],
)
def test_a_loss_or_a_long_outage_is_not_good(bad: Round) -> None:
    assert failover_probe._summary([GOOD])["good"]
    assert not failover_probe._summary([GOOD, bad])["good"]
