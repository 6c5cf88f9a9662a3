"""Log lines of handlers carry the job's id and what its producer gave along, in every executor of this process."""

from typing import Any

import pytest

from app.context import present
from app.database.connect import connect
from app.queue.enqueue import enqueue_many_async
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from tests.support.claims import rows
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_each_job_logs_with_its_own_ids(db_url: str, executor: Any) -> None:
    seen: dict[int, dict[str, Any]] = {}

    def note(job: Job[dict[str, Any]]) -> None:
        seen[job.id] = dict(present())

    async def note_async(job: Job[dict[str, Any]]) -> None:
        note(job)

    registry = Registry()
    registry.add(Kind("test", note_async if executor == "async" else note, executor=executor))
    with_ids = NewJob(
        "test", context={"request_id": "r-1", "conversation_id": "c-1", "other": "x", "traceparent": 7}
    )
    async with await connect(db_url, name="test") as connection:
        jobs = await enqueue_many_async(connection, [with_ids, NewJob("test"), NewJob("test")])
        async with supervised(db_url, registry, slots=1):
            await eventually_async(lambda: rows(connection, "SELECT 1 FROM tandem.done OFFSET 2"))
    first, *others = [job.job_id for job in jobs]
    assert seen[first] == {"job_id": first, "request_id": "r-1", "conversation_id": "c-1"}
    assert [seen[other] for other in others] == [{"job_id": other} for other in others]
