"""The queue does what the model does; and the machine finds each bug that is planted in a copy of the statements."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from app.queue import admin_store, lease, store
from tests.machines.conftest import chosen
from tests.machines.queue_machine import QueueMachine, open_connection

PLANTED: dict[str, tuple[str, str, str]] = {
    "a finish without its token": ("finish_jobs", "AND l.token = i.token", ""),
    "a failure without its token": ("close_jobs", "AND l.token = i.token", ""),
    "a hand-back without its token": ("hand_back_jobs", "AND l.token = i.token", ""),
    "a rescue by id alone": ("rescue_jobs", "AND l.token = i.token AND (l.expires_at <= c.at) IS TRUE", ""),
    "a claim from paused queues": ("claim_jobs", "q.paused_at IS NOT NULL", "false"),
    "a redrive of what succeeded": ("redrive_jobs", "AND d.outcome = 'DEAD'", ""),
}  # fmt: skip


@contextmanager
def machine(url: str) -> Iterator[type[QueueMachine]]:
    """The machine on its own connection and loop."""
    with asyncio.Runner() as runner:
        connection = runner.run(open_connection(url))
        try:
            yield type("Machine", (QueueMachine,), {"url": url, "runner": runner, "connection": connection})
        finally:
            runner.run(connection.close())


def test_the_queue_does_what_the_model_does(db_url: str) -> None:
    with machine(db_url) as made:
        run_state_machine_as_test(made, settings=chosen(examples=20, steps=30))


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_bug_is_found(db_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shrinking: that it is found is enough."""
    file, right, wrong = PLANTED[name]
    good, planted = store.statement, list[str]()

    def statement(area: str, which: str) -> bytes:
        text = good(area, which).decode()
        if which == file:
            assert right in text, "the statement was rewritten: plant the bug anew"
            text = text.replace(right, wrong)
            planted.append(which)
        return text.encode()

    for module in (store, admin_store, lease):
        monkeypatch.setattr(module, "statement", statement)
    search = settings(
        max_examples=400, stateful_step_count=40, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    with machine(db_url) as made, pytest.raises(Exception) as found:
        run_state_machine_as_test(made, settings=search)
    assert planted
    assert isinstance(found.value, AssertionError) or "unique" in str(found.value), found.value
