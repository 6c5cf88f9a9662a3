"""The workflows that customers submit jobs for: their input, and what they compute. Each is a kind of job of its own.

Knows nothing of tiers, prices or transactions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import psycopg
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.api.problem_models import pointer
from app.contracts import AnalyseConversation
from app.domains.customers.errors import unknown_workflow
from app.domains.customers.keywords import as_json, extract_keywords
from app.domains.customers.models import Language
from app.errors import InvalidInput

PREFIX: Final = "workflow."
LARGE: Final = 16 * 1024
"""Characters from which a text is worked on in a thread, so that the other jobs' coroutines go on."""
Connection = psycopg.AsyncConnection[Any]


class Input(BaseModel):
    """A workflow's input: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Turn(Input):
    """One thing that was said."""

    speaker: Literal["user", "bot"]
    text: Annotated[str, StringConstraints(max_length=20_000)]
    timestamp: datetime | None = None
    topic: Annotated[str, StringConstraints(max_length=200)] | None = None


class Conversation(Input):
    """What `conversation-analysis` judges; nothing of it is stored."""

    bot_type: Literal["TALK", "GREETING", "GAME_ACTIVITY"] = "TALK"
    bot_id: Annotated[str, StringConstraints(max_length=128)] = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    conversation_log: Annotated[list[Turn], Field(min_length=1, max_length=5_000)]


class KeywordText(Input):
    """What `text-keywords` reads."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    language: Language | None = None
    most: Annotated[int, Field(ge=1, le=50)] = 10


class ReportOrder(Input):
    """What `usage-report` reports on: a month like 2026-11; the present one if it is left out."""

    month: Annotated[str, StringConstraints(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What a workflow works on: whose, and the validated input."""

    customer_id: str
    input: Any


Compute = Callable[[Order, Connection | None], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow: `compute` answers the result. With `reads` it gets the transaction in which its job ends.

    `canary` is the input of its periodic health check.
    """

    name: str
    input: type[Input]
    compute: Compute
    canary: Mapping[str, Any]
    reads: bool = False

    @property
    def kind(self) -> str:
        """The kind of its jobs."""
        return PREFIX + self.name

    def check(self, given: Mapping[str, Any]) -> None:
        """Raise InvalidInput that points at each value of the input that does not fit."""
        try:
            self.input.model_validate(given)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
            errors = [{"pointer": "/input" + pointer(one["loc"]), "detail": str(one["msg"])} for one in found]
            raise InvalidInput(
                "validation-failed", f"the input does not fit workflow {self.name}", detail={"errors": errors}
            ) from None


def make_workflows(*, analyse: AnalyseConversation, report: Compute) -> dict[str, Workflow]:
    """The workflows that ship; `analyse` is another application's offer, `report` the customer's usage of a month."""

    async def conversation_analysis(order: Order, _: Connection | None) -> dict[str, Any]:
        given: Conversation = order.input
        log = [turn.model_dump(mode="json", exclude_none=True) for turn in given.conversation_log]
        return await asyncio.to_thread(
            analyse,
            log,
            bot_type=given.bot_type,
            bot_id=given.bot_id,
            start_time=given.start_time,
            end_time=given.end_time,
        )

    made = [
        Workflow(
            "conversation-analysis",
            Conversation,
            conversation_analysis,
            {"conversation_log": [{"speaker": "user", "text": "Do you like films? I love them!"}]},
        ),
        Workflow("text-keywords", KeywordText, text_keywords, {"text": "A job queue keeps its jobs."}),
        Workflow("usage-report", ReportOrder, report, {}, reads=True),
    ]
    return {workflow.name: workflow for workflow in made}


async def text_keywords(order: Order, _: Connection | None) -> dict[str, Any]:
    """Language and keywords of a text."""
    given: KeywordText = order.input

    def work() -> dict[str, Any]:
        language, keywords = extract_keywords(given.text, language=given.language, most=given.most)
        return {"language": language, "keywords": as_json(keywords)}

    return await asyncio.to_thread(work) if len(given.text) > LARGE else work()


def find_workflow(workflows: Mapping[str, Workflow], name: str) -> Workflow:
    """The workflow of this name. Raises NotFound."""
    if name not in workflows:
        raise unknown_workflow(sorted(workflows))
    return workflows[name]
