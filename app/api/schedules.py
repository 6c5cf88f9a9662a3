"""/v1/schedules: cron schedules over HTTP. What happens is in queue.schedules; here are paths, statuses and shapes."""

import logging
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from app.api.auth import PrincipalDep, requires
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep
from app.api.job_models import Name, Status, plain_number
from app.api.openapi import json_body, problems
from app.errors import NotFound
from app.queue import schedules
from app.queue.job import NAME

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])
BODY_LIMIT: Final = 512 * 1024
_READ: Final = [Depends(requires("schedules:read"))]
_CHANGE: Final = [Depends(requires("schedules:write"))]
_PATH_NAME: Final = {"type": "string", "pattern": NAME.pattern.replace(r"\Z", "$"), "examples": ["nightly"]}
_log = logging.getLogger(__name__)


class PutSchedule(BaseModel):
    """What is enqueued at which ticks. `cron` has the five fields of crontab(5)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"cron": "0 3 * * *", "timezone": "Europe/Berlin", "kind": "report"}]
        },
    )

    cron: Annotated[str, StringConstraints(max_length=200)]
    kind: Name
    payload: Any = Field(default_factory=dict)
    queue: Name = "default"
    timezone: Annotated[str, StringConstraints(max_length=100)] = "UTC"
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    partition_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    missed: Literal["coalesce", "catch_up"] = "coalesce"
    overlap: bool = True


class Schedule(BaseModel):
    """A schedule as it stands. One from code can be paused and run, not changed."""

    name: str
    cron: str
    timezone: str
    kind: str
    queue: str
    payload: Any
    priority: int
    partition_key: str | None
    missed: Literal["coalesce", "catch_up"]
    overlap: bool
    source: Literal["code", "operator"]
    paused_at: datetime | None
    paused_by: str | None
    next_tick_at: datetime
    last_tick_at: datetime | None
    last_job_id: int | None
    last_status: Status | None
    created_at: datetime


class ScheduleList(BaseModel):
    """Every schedule, by name."""

    schedules: list[Schedule]


class ScheduleTicks(BaseModel):
    """When a schedule fires next."""

    schedule: str
    ticks: list[datetime]


class ScheduleRun(BaseModel):
    """The job that was made."""

    schedule: str
    job_id: int


async def _name(schedule: Annotated[str, WithJsonSchema(_PATH_NAME)]) -> str:
    """What is no name at all is answered like a name that nobody has."""
    if not NAME.match(schedule):
        raise NotFound("unknown-schedule", "there is no such schedule")
    return schedule


NameDep = Annotated[str, Depends(_name)]
Count = Annotated[
    int,
    BeforeValidator(plain_number),
    Field(ge=1, le=schedules.COMING_LIMIT),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": schedules.COMING_LIMIT}),
]


@router.get("", dependencies=_READ, summary="List schedules", responses=problems(503))
async def list_schedules(access: AccessDep) -> ScheduleList:
    """By name, with the next and the last tick, and what became of the last tick's job."""
    async with access.read() as connection:
        rows = await schedules.list_schedules(connection)
    return ScheduleList(schedules=[Schedule.model_validate(row) for row in rows])


@router.get("/{schedule}", dependencies=_READ, summary="One schedule", responses=problems(404, 503))
async def get_schedule(schedule: NameDep, access: AccessDep) -> Schedule:
    """Its times, its job, and whether it is paused."""
    async with access.read() as connection:
        return Schedule.model_validate(await schedules.read_schedule(connection, schedule))


@router.get(
    "/{schedule}/ticks", dependencies=_READ, summary="When it fires next", responses=problems(404, 422, 503)
)
async def get_ticks(
    schedule: NameDep, access: AccessDep, count: Annotated[Count, Query()] = 5
) -> ScheduleTicks:
    """The next ticks, in UTC."""
    async with access.read() as connection:
        ticks = await schedules.coming_ticks(connection, schedule, count=count)
    return ScheduleTicks(schedule=schedule, ticks=ticks)


@router.put(
    "/{schedule}",
    dependencies=_CHANGE,
    summary="Add or change a schedule",
    responses=problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(PutSchedule),
)
async def put_schedule(schedule: NameDep, request: Request, access: AccessDep) -> Schedule:
    """Its ticks begin now. Safe to repeat. 409 (declared-in-code) for one that workers bring in their code."""
    wanted = validate(PutSchedule, await read_json(request, limit=BODY_LIMIT))
    made = schedules.Schedule(schedule, **wanted.model_dump())
    async with access.write_at_once() as connection, connection.transaction():
        row = await schedules.put_schedule(connection, made)
    _log.info("schedule %s is %s %s", schedule, made.cron, made.timezone)
    return Schedule.model_validate(row)


@router.post(
    "/{schedule}/pause", dependencies=_CHANGE, summary="Pause a schedule", responses=problems(404, 503)
)
async def pause_schedule(schedule: NameDep, access: AccessDep, caller: PrincipalDep) -> Schedule:
    """No tick fires until it is resumed; those that pass meanwhile never do. Safe to repeat."""
    async with access.write_at_once() as connection, connection.transaction():
        return Schedule.model_validate(
            await schedules.pause_schedule(connection, schedule, by=caller.subject)
        )


@router.post(
    "/{schedule}/resume", dependencies=_CHANGE, summary="Resume a schedule", responses=problems(404, 503)
)
async def resume_schedule(schedule: NameDep, access: AccessDep) -> Schedule:
    """From the next tick on. Safe to repeat."""
    async with access.write_at_once() as connection, connection.transaction():
        return Schedule.model_validate(await schedules.resume_schedule(connection, schedule))


@router.post(
    "/{schedule}/run",
    dependencies=_CHANGE,
    status_code=202,
    summary="Make a job now",
    responses=problems(404, 503),
)
async def run_schedule(schedule: NameDep, access: AccessDep) -> ScheduleRun:
    """One more job, also while it is paused; its ticks stay as they are. Each call makes one."""
    async with access.write_at_once() as connection:
        job_id = await schedules.run_schedule(connection, schedule)
    return ScheduleRun(schedule=schedule, job_id=job_id)


@router.delete(
    "/{schedule}",
    dependencies=_CHANGE,
    status_code=204,
    summary="Remove a schedule",
    responses=problems(404, 503),
)
async def remove_schedule(schedule: NameDep, access: AccessDep) -> Response:
    """Its jobs stay. One declared in code comes back with the next worker."""
    async with access.write_at_once() as connection:
        await schedules.remove_schedule(connection, schedule)
    return Response(status_code=204)
