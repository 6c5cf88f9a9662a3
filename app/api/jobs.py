"""/v1/jobs: look at jobs, cancel and retry them. What happens is in queue.admin; here are paths, statuses, cursors."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import WithJsonSchema

from app.api.auth import PrincipalDep, requires
from app.api.body import read_json, validate
from app.api.cursor import Cursors
from app.api.dependencies import AccessDep, RegistryDep
from app.api.job_models import (
    CancelJob,
    Job,
    JobCancel,
    JobDetail,
    JobEta,
    JobExplanation,
    JobFilter,
    JobPage,
    JobReason,
    JobResult,
    JobRetry,
)
from app.api.openapi import json_body, link, problems
from app.errors import Conflict, InvalidInput, NotFound
from app.queue import admin
from app.queue.eta import job_eta
from app.queue.explain import UNKNOWN_JOB, explain_job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
LAST_ID: Final = 2**63 - 1
BODY_LIMIT: Final = 8 * 1024
_READ: Final = [Depends(requires("jobs:read"))]
_CHANGE: Final = [Depends(requires("jobs:write"))]
_ID: Final = re.compile(r"[1-9][0-9]{0,18}\Z")
_PATH_ID: Final = {"type": "integer", "format": "int64", "minimum": 1, "examples": [17]}
_CANCELLED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "It has ended"},
    202: {"model": JobCancel, "description": "It runs"},
}
_FIRST: Final = "$response.body#/jobs/0/job_id"
_LISTED: Final[dict[str, Any]] = {
    "first": link("get_job", "The newest of them", job_id=_FIRST),
    "cancel": link("cancel_job", "Cancel the newest of them", job_id=_FIRST),
    "retry": link("retry_job", "Redrive the newest of them", job_id=_FIRST),
    "next": link("list_jobs", "The next page", cursor="$response.body#/next_cursor"),
}
_log = logging.getLogger(__name__)


async def _job_id(job_id: Annotated[str, WithJsonSchema(_PATH_ID)]) -> int:
    """What is no id at all is answered like an id that nobody has."""
    if not _ID.match(job_id) or int(job_id) > LAST_ID:
        raise _unknown()
    return int(job_id)


async def _each_once(request: Request) -> None:
    """Two values of one parameter could be read either way, by us and by whoever stands before us."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) != len(names):
        raise InvalidInput("repeated-parameter", "a parameter of the query is given more than once")


async def _cursors(request: Request) -> Cursors:
    return cast(Cursors, request.app.state.cursors)


JobIdDep = Annotated[int, Depends(_job_id)]


@router.get(
    "",
    summary="List jobs",
    dependencies=[*_READ, Depends(_each_once)],
    responses=problems(400, 422, 503),
)
async def list_jobs(
    wanted: Annotated[JobFilter, Query()], access: AccessDep, cursors: Annotated[Cursors, Depends(_cursors)]
) -> JobPage:
    """Newest first, filtered by status, kind and queue. A cursor is good for the same filters only."""
    scope = json.dumps(["jobs", wanted.status, wanted.kind, wanted.queue])
    before = None if wanted.cursor is None else cursors.read(wanted.cursor, scope)
    async with access.read() as connection:
        rows = await admin.list_jobs(
            connection,
            status=wanted.status,
            kind=wanted.kind,
            queue=wanted.queue,
            limit=wanted.limit,
            before=before,
        )
    more = len(rows) == wanted.limit
    return JobPage(
        jobs=[Job.model_validate(row, extra="ignore") for row in rows],
        next_cursor=cursors.make(rows[-1]["job_id"], scope) if more else None,
    )


@router.get(
    "/{job_id}", summary="One job with its failed tries", dependencies=_READ, responses=problems(404, 503)
)
async def get_job(job_id: JobIdDep, access: AccessDep) -> JobDetail:
    """Where it stands, its payload, its failed tries, and whether somebody asked for its cancel."""
    return JobDetail.model_validate(await read_one(access, job_id), extra="ignore")


@router.get(
    "/{job_id}/result",
    summary="What a job answered",
    dependencies=_READ,
    responses=problems(404, 409, 503),
)
async def get_result(job_id: JobIdDep, access: AccessDep) -> JobResult:
    """409 (wrong-state) as long as it has not succeeded; the problem's `job_status` says where it stands."""
    found = await read_one(access, job_id)
    if found["status"] != "SUCCEEDED":
        raise _wrong_state(f"job {job_id} is {found['status']}: it has no result", found["status"])
    return JobResult(job_id=job_id, result=found["result"])


@router.get(
    "/{job_id}/explain", summary="Why a job does not run", dependencies=_READ, responses=problems(404, 503)
)
async def get_explanation(job_id: JobIdDep, access: AccessDep) -> JobExplanation:
    """The reasons, what matters most first: paused, not due, no worker, behind others, claimed, ended and how."""
    async with access.read() as connection:
        reasons = await explain_job(connection, job_id)
    if reasons[0].code == UNKNOWN_JOB:
        raise _unknown()
    return JobExplanation(
        job_id=job_id,
        reasons=[JobReason.model_validate(reason, from_attributes=True) for reason in reasons],
    )


@router.get(
    "/{job_id}/eta",
    summary="When it will start and end",
    dependencies=_READ,
    responses=problems(404, 409, 503),
)
async def get_eta(job_id: JobIdDep, access: AccessDep) -> JobEta:
    """Expected times with 80 % bands, from recent runs. 409 (wrong-state) when it has ended."""
    async with access.read() as connection:
        with _as_problems():
            return JobEta.model_validate(await job_eta(connection, job_id))


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    dependencies=_CHANGE,
    responses=_CANCELLED | problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(CancelJob, required=False),
)
async def cancel_job(
    job_id: JobIdDep,
    request: Request,
    response: Response,
    access: AccessDep,
    registry: RegistryDep,
    caller: PrincipalDep,
) -> JobCancel:
    """At once when it waits; by its worker's next heartbeat when it runs (202). Safe to repeat. A body is optional."""
    reason = await _reason(request)
    async with access.write_at_once() as connection:
        with _as_problems():
            answer = await admin.cancel_job(connection, registry, job_id, by=caller.subject, reason=reason)
    _log.info("cancel of job %s: %s", job_id, answer)
    response.status_code = 200 if answer == "CANCELLED" else 202
    return JobCancel(job_id=job_id, cancel=answer)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Redrive a dead letter",
    dependencies=_CHANGE,
    responses=problems(404, 409, 503),
)
async def retry_job(
    job_id: JobIdDep, access: AccessDep, registry: RegistryDep, caller: PrincipalDep
) -> JobRetry:
    """Ready again, its tries counted from 0. 409 (wrong-state) for a job that is not a dead letter."""
    async with access.write_at_once() as connection:
        with _as_problems():
            await admin.redrive_job(connection, registry, job_id, by=caller.subject)
    _log.info("job %s is redriven", job_id)
    return JobRetry(job_id=job_id)


async def read_one(access: AccessDep, job_id: int) -> dict[str, Any]:
    """All there is to know of a job. Raises NotFound."""
    async with access.read() as connection:
        with _as_problems():
            return await admin.read_job(connection, job_id)


async def _reason(request: Request) -> str | None:
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return None
    return validate(CancelJob, await read_json(request, limit=BODY_LIMIT)).reason


@contextmanager
def _as_problems() -> Iterator[None]:
    """One problem for every id that is not there, and one for every job that is in the wrong state."""
    try:
        yield
    except NotFound:
        raise _unknown() from None
    except Conflict as error:
        if "status" not in error.detail:
            raise
        raise _wrong_state(error.message, error.detail["status"]) from None


def _unknown() -> NotFound:
    return NotFound("unknown-job", "there is no such job")


def _wrong_state(message: str, status: str) -> Conflict:
    return Conflict("wrong-state", message, detail={"members": {"job_status": status}})
