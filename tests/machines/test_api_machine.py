"""The API against plain dictionaries: calls in any order, repeated or contradictory, answer as the model says."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.conversations import jobs, repository
from app.queue.kinds import Registry
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Store
from tests.machines.conftest import chosen
from tests.support.claims import claim, every_lane
from tests.support.conversations import END, body, counts, opened_sessions, registered, serving
from tests.support.membership import check_membership

CLEAR = "TRUNCATE conversation_events, tandem.job, tandem.ready, tandem.lease, tandem.scheduled, tandem.done," \
    " tandem.attempt, tandem.cancel_intent"  # fmt: skip
EVENT = {"PENDING": "PENDING", "RUNNING": "PROCESSING", "DEAD": "FAILED", "CANCELLED": "FAILED"}


class ApiMachine(RuleBasedStateMachine):
    """Calls of clients and operators, and a worker's ends beside them."""

    url: str
    runner: asyncio.Runner
    client: httpx.AsyncClient
    connection: BoundedAsyncConnection
    registry: Registry

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, dict[str, Any]] = {}

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A call, whose answer is never a 5xx."""
        answer = self.runner.run(self.client.request(method, path, **more))
        assert answer.status_code < 500, answer.text
        return answer

    @initialize()
    def begin(self) -> None:
        """No conversation."""
        self.runner.run(self._clear())

    async def _clear(self) -> None:
        await self.connection.execute(CLEAR.encode())

    @rule(name=st.sampled_from("abc"), variant=st.integers(0, 1))
    def end(self, name: str, variant: int) -> None:
        """The first call wins; the same again is the same, another one a conflict."""
        answer = self.call("POST", END, json=body(f"conv_{name}", bot_name=f"bot {variant}"))
        known = self.known.get(name)
        if known is not None and known["variant"] != variant:
            assert answer.status_code == 409
            return
        assert answer.status_code == 202
        told = answer.json()
        if known is None:
            self.known[name] = {"variant": variant, "state": "PENDING", **told}
        else:
            assert (told["event_id"], told["job_id"]) == (known["event_id"], known["job_id"])

    @rule(name=st.sampled_from("abc"), damage=st.sampled_from(["end_time", "bot_type", "conversation_id"]))
    def end_badly(self, name: str, damage: str) -> None:
        """Refused, and nothing changes."""
        answer = self.call("POST", END, json=body(f"conv_{name}") | {damage: "\x1b"})
        assert answer.status_code == 422

    @precondition(lambda self: self.known)
    @rule(data=st.data(), action=st.sampled_from(["cancel", "retry", "result"]))
    def operate(self, data: st.DataObject, action: str) -> None:
        """What the state allows, and 409 with the state for the rest."""
        known = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        method = "GET" if action == "result" else "POST"
        answer = self.call(method, f"/v1/jobs/{known['job_id']}/{action}")
        allowed = {
            "cancel": ("PENDING", "RUNNING", "CANCELLED"),
            "retry": ("DEAD",),
            "result": ("SUCCEEDED",),
        }[action]
        if known["state"] not in allowed:
            assert (answer.status_code, answer.json()["job_status"]) == (409, known["state"])
            return
        assert answer.status_code in (200, 202)
        if action == "retry":
            known["state"] = "PENDING"
        elif action == "cancel" and known["state"] == "RUNNING":
            known["asked"] = True
        elif action == "cancel":
            known["state"] = "CANCELLED"

    @rule()
    def start(self) -> None:
        """A worker claims one job, the oldest."""
        claimed = self.runner.run(claim(self.connection, 1, lanes=every_lane((jobs.QUEUE,))))
        waiting = [known for known in self.known.values() if known["state"] == "PENDING"]
        assert len(claimed) == min(1, len(waiting))
        for one in claimed:
            [known] = [known for known in waiting if known["job_id"] == one.id]
            known["state"], known["token"] = "RUNNING", one.token

    @precondition(lambda self: any(known["state"] == "RUNNING" for known in self.known.values()))
    @rule(data=st.data(), well=st.booleans())
    def stop(self, data: st.DataObject, well: bool) -> None:
        """The worker ends a job: a dead letter, or a cancel; without its application's own end it may not succeed."""
        running = sorted(name for name, known in self.known.items() if known["state"] == "RUNNING")
        known = self.known[data.draw(st.sampled_from(running))]
        pair = (known["job_id"], known["token"])
        if well and not known.get("asked"):
            done = self.runner.run(
                Store(self.connection).finish_jobs([Finish(*pair, ran_ms=1.0, result="1")])
            )
            assert done == {known["job_id"]}
            known["state"] = "SUCCEEDED"
            return
        outcome = "CANCELLED" if known.pop("asked", False) else "DEAD"
        failed = Failed(*pair, ran_ms=1.0, error_class="temporary", message="no", outcome=outcome)
        job = FailedJob(jobs.KIND, known_event(known), failed)
        assert self.runner.run(settle(self.connection, self.registry, [job])) == {known["job_id"]: outcome}
        known["state"] = outcome

    @invariant()
    def everybody_is_told_the_same(self) -> None:
        """One event and one job each; conversation, job and list agree with the model."""
        assert counts(self.url) == (len(self.known), len(self.known))
        listed = {one["job_id"]: one["status"] for one in self.call("GET", "/v1/jobs").json()["jobs"]}
        assert listed == {known["job_id"]: known["state"] for known in self.known.values()}
        for name, known in self.known.items():
            told = self.call("GET", f"/v1/conversations/conv_{name}").json()
            assert (told["event_id"], told["job_id"]) == (known["event_id"], known["job_id"])
            if known["state"] != "SUCCEEDED":
                assert told["status"] == EVENT[known["state"]]

    def teardown(self) -> None:
        """Each job in exactly one place."""
        check_membership(self.url)


def known_event(known: dict[str, Any]) -> Any:
    """The event's id, as the queue knows it."""
    return UUID(known["event_id"])


def search(db_url: str, how: settings) -> None:
    """Run the machine on an API of its own. Raises AssertionError where API and model differ."""

    async def opened() -> tuple[Any, Any, Any, Any]:
        sessions, api = opened_sessions(db_url), serving(db_url)
        connection = await connect(db_url, name="machine")
        return sessions, api, connection, (await api.__aenter__(), await sessions.__aenter__())

    async def closed(sessions: Any, api: Any, connection: Any) -> None:
        await api.__aexit__(None, None, None)
        await sessions.__aexit__(None, None, None)
        await connection.close()

    with asyncio.Runner() as runner:
        sessions, api, connection, (client, made) = runner.run(opened())
        try:
            machine = type("Machine", (ApiMachine,), {
                "url": db_url, "runner": runner, "client": client, "connection": connection,
                "registry": registered(made),
            })  # fmt: skip
            run_state_machine_as_test(machine, settings=how)
        finally:
            runner.run(closed(sessions, api, connection))


def test_the_api_does_what_the_model_does(db_url: str) -> None:
    search(db_url, chosen(examples=8, steps=20))


def test_a_conflict_that_is_not_noticed_is_found(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = repository.end_conversation

    async def blind(connection: Any, values: Any) -> Any:
        written = await good(connection, values)
        return written and written._replace(same_body=True)

    monkeypatch.setattr(repository, "end_conversation", blind)
    with pytest.raises(AssertionError):  # that it is found is enough: no shrinking
        search(db_url, settings(chosen(examples=20, steps=20), phases=[Phase.generate]))
