"""`tandem cron`: add, look, pause, run, remove."""

import pytest

from tests.support.command_line import facts, run


@pytest.fixture(autouse=True)
def database(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands find the test's database."""
    monkeypatch.setenv("DATABASE_URL", db_url)


def test_a_schedules_life() -> None:
    assert run("cron", "list") == (0, "no schedules\n")
    made = facts(
        "cron",
        "add",
        "nightly",
        "0 3 * * *",
        "report",
        "--timezone",
        "Asia/Ho_Chi_Minh",
        "--payload",
        '{"n": 1}',
    )
    assert made["next_tick_at"].endswith("T20:00:00+00:00")
    code, text = run("cron", "list")
    assert code == 0
    assert text.splitlines()[1].split()[:2] == ["nightly", "0"]
    assert len(facts("cron", "next", "nightly", "--count", "3")["ticks"]) == 3
    assert facts("cron", "pause", "nightly", "--by", "ann")["paused_by"] == "ann"
    assert "paused by ann" in run("cron", "list")[1]
    job = facts("cron", "run", "nightly")["job_id"]
    assert facts("jobs", "show", str(job))["payload"] == {"n": 1}
    assert facts("cron", "resume", "nightly")["paused_at"] is None
    assert facts("cron", "show", "nightly")["timezone"] == "Asia/Ho_Chi_Minh"
    assert facts("cron", "remove", "nightly")["removed"]
    assert facts("cron", "list")["schedules"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "one", "0 3 * *", "report"), "five fields"),
        (
            ("add", "one", "@daily", "report", "--timezone", "Mars/Olympus"),
            "time zone 'Mars/Olympus' is unknown",
        ),
        (("add", "one", "@daily", "report", "--payload", "{"), "--payload is not JSON"),
        (("pause", "none"), "there is no schedule 'none'"),
    ],
)
def test_what_is_wrong_is_explained(arguments: tuple[str, ...], said: str) -> None:
    code, text = run("cron", *arguments)
    assert code == 1
    assert said in text
