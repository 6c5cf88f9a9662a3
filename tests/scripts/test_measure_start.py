"""The measurement of starts: it waits until a worker and the API really serve, and says so when they do not."""

import pytest

from scripts.measure_start import Start, measure, medians, start


def test_worker_and_api_are_measured_until_they_serve(db_url: str) -> None:
    found = measure(db_url, 1)
    assert set(found) == {"worker", "api"}
    for [one] in found.values():
        assert one.cpu_s > 0
        assert one.seconds > 0
        assert one.rss_mb > 20, "a Python with its libraries"


def test_a_command_that_does_not_serve_is_told(db_url: str) -> None:
    with pytest.raises(RuntimeError, match="(?s)tandem no-such-command does not serve: .*no-such-command"):
        start(db_url, "no-such-command", serves=lambda: False)


def test_medians_are_of_each_figure() -> None:
    starts = [Start(1.0, 0.5, 60.0), Start(3.0, 0.1, 61.0), Start(2.0, 0.9, 62.0)]
    assert medians(starts) == {"seconds": 2.0, "cpu_s": 0.5, "rss_mb": 61.0}
