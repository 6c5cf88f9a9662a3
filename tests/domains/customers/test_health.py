"""Canary jobs: each workflow is tried through the real queue; what fails or does not answer is unhealthy."""

from typing import Any

from app.applications import customer_workflows
from app.database.connect import connect
from app.domains.customers.health import read_health, send_canaries
from app.domains.customers.workflows import Order, Workflow
from tests.support.conversations import read, serving
from tests.support.customers import make_settings, working
from tests.support.waiting import eventually_async

WORKFLOWS = {"text-keywords", "conversation-analysis", "usage-report"}


async def ask(url: str, offset: str = "0") -> dict[str, bool | None]:
    """Each workflow's health."""
    async with await connect(url, name="test", session={"tandem.clock_offset": offset}) as connection:
        return {one.workflow: one.healthy for one in await read_health(connection, make_settings().customers)}


async def send(url: str, offset: str = "0") -> int:
    """Send what is due."""
    settings = make_settings()
    async with await connect(url, name="test", session={"tandem.clock_offset": offset}) as connection:
        return await send_canaries(
            connection, workflows=customer_workflows(settings), settings=settings.customers
        )


async def test_canaries_answer_and_are_shown(db_url: str) -> None:
    async with working(db_url, sweep=True, canaries=True):

        async def answered() -> bool:
            return await ask(db_url) == dict.fromkeys(WORKFLOWS, True)

        await eventually_async(answered, timeout=30)
    async with serving(db_url) as client:
        shown = (await client.get("/health/workflows")).json()
    assert {one["workflow"] for one in shown} == WORKFLOWS
    assert all(one["healthy"] and one["seconds"] >= 0 and "error" not in one for one in shown)
    assert read(db_url, "SELECT 1 AS n FROM customer_usage UNION ALL SELECT 1 FROM customer_jobs") == []


async def test_canaries_come_at_their_pace_and_silence_is_unhealthy(db_url: str) -> None:
    assert await send(db_url) == 3
    assert await send(db_url) == 0
    assert await ask(db_url) == dict.fromkeys(WORKFLOWS), "nothing is known yet"
    assert await send(db_url, "301 seconds") == 3
    assert await ask(db_url, "950 seconds") == dict.fromkeys(WORKFLOWS, False)


async def test_a_workflow_that_fails_is_unhealthy_with_its_reason(db_url: str) -> None:
    async def broken(_: Order, __: Any) -> dict[str, Any]:
        raise ValueError("the model is gone")

    found = customer_workflows(make_settings())["text-keywords"]
    workflows = {"text-keywords": Workflow(found.name, found.input, broken, found.canary)}
    await send(db_url)
    async with working(db_url, workflows=workflows, sweep=True):

        async def unhealthy() -> bool:
            return (await ask(db_url))["text-keywords"] is False

        await eventually_async(unhealthy, timeout=30)
    [row] = read(db_url, "SELECT error FROM workflow_health WHERE workflow = 'text-keywords'")
    assert "the model is gone" in row.error
