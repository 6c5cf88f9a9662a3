"""The HTTP face of the customers: paths, status codes and headers. What happens is in service.py and its neighbours."""

import re
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import WithJsonSchema

from app import events
from app.api.access import Access
from app.api.auth import PrincipalDep, public, requires
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep, RegistryDep, SettingsDep
from app.api.openapi import json_body, problems
from app.domains.customers import accounts, billing, health, reports, repository, service
from app.domains.customers.errors import not_finished, unknown_job
from app.domains.customers.facts import Refused
from app.domains.customers.hooks import keyring
from app.domains.customers.messages import preferred
from app.domains.customers.models import Accepted, Terms
from app.domains.customers.priority import band_of
from app.domains.customers.ratelimit import day_left, rate_headers
from app.domains.customers.schemas import (
    Account,
    AccountChanged,
    ChangeAccount,
    CustomerJobResult,
    Eta,
    Invoice,
    JobAccepted,
    JobCancelled,
    JobList,
    JobState,
    Notifications,
    SubmitJob,
    WorkflowOffer,
    Workflows,
)
from app.domains.customers.service import Caller, Submission
from app.domains.customers.workflows import Workflow, find_workflow
from app.errors import InvalidInput, TooMany, Unavailable
from app.queue import admin
from app.queue.eta import EtaStore

router = APIRouter(tags=["customers"])
LAST_ID: Final = 2**63 - 1
BODY_LIMIT: Final = 256 * 1024
_ID: Final = re.compile(r"[1-9][0-9]{0,18}\Z")
_CUSTOMER: Final = re.compile(r"[A-Za-z0-9][^\x00-\x1f\x7f]{0,127}\Z")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")
_SUBMIT = [Depends(requires("workflows:submit"))]
_READ = [Depends(requires("workflows:read"))]
_ACCOUNT = [Depends(requires("account:read"))]
_CHANGE = [Depends(requires("account:write"))]
_HEADERS: Final[dict[str, Any]] = {
    name: {"description": told, "schema": {"type": "string"}}
    for name, told in {
        "Location": "Where the job can be read",
        "RateLimit-Policy": "What is allowed per minute and day (draft-ietf-httpapi-ratelimit-headers)",
        "RateLimit": "What is left of it, and in how many seconds it begins again",
    }.items()
}
_SUBMITTED: Final[dict[int | str, dict[str, Any]]] = {202: {"headers": _HEADERS}}
_CANCELLED: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": JobCancelled, "description": "It runs, and its worker is told"}
}


async def _caller(principal: PrincipalDep, accept_language: Annotated[str | None, Header()] = None) -> Caller:
    """The customer that the token names (else its subject), with the token's tier and the reader's language."""
    customer_id = principal.customer or principal.subject
    if not _CUSTOMER.match(customer_id):
        raise InvalidInput("invalid-customer", "the token names a customer that is no id of ours")
    return Caller(customer_id, principal.tier, preferred(accept_language))


async def _workflow(request: Request, workflow: str) -> Workflow:
    return find_workflow(cast(dict[str, Workflow], request.app.state.workflows), workflow)


async def _job_id(
    job_id: Annotated[str, WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1})],
) -> int:
    if not _ID.match(job_id) or int(job_id) > LAST_ID:
        raise unknown_job()
    return int(job_id)


CallerDep = Annotated[Caller, Depends(_caller)]
WorkflowDep = Annotated[Workflow, Depends(_workflow)]
JobIdDep = Annotated[int, Depends(_job_id)]


@router.get("/v1/workflows", summary="Which workflows there are", dependencies=_READ)
async def list_workflows(request: Request) -> Workflows:
    """Each with the JSON schema of its input."""
    known = cast(dict[str, Workflow], request.app.state.workflows)
    return Workflows(
        workflows=[
            WorkflowOffer(workflow=name, input=one.input.model_json_schema()) for name, one in known.items()
        ]
    )


@router.post(
    "/v1/workflows/{workflow}/jobs",
    summary="Submit a job",
    status_code=202,
    dependencies=_SUBMIT,
    responses=_SUBMITTED | problems(400, 404, 413, 415, 422, 429, 503),
    openapi_extra=json_body(SubmitJob),
)
async def submit_workflow_job(
    request: Request,
    response: Response,
    workflow: WorkflowDep,
    caller: CallerDep,
    access: AccessDep,
    settings: SettingsDep,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> JobAccepted:
    """202: the job is in the queue. 429: rate-limited, quota-exceeded or system-busy, with Retry-After.

    With an Idempotency-Key a repeat answers the first call's job; the same key with another body gives 422.
    """
    if idempotency_key is not None and not _KEY.match(idempotency_key):
        raise InvalidInput(
            "invalid-idempotency-key", "an Idempotency-Key is 1 to 255 visible ASCII characters"
        )
    wanted = validate(SubmitJob, await read_json(request, limit=BODY_LIMIT))
    workflow.check(wanted.input)
    submission = Submission(workflow, wanted, idempotency_key)
    async with access.write_at_once() as connection:
        terms = await service.meet(connection, caller)
        try:
            left = await service.take_rate(connection, terms, caller.language)
            async with connection.transaction():
                made = await service.submit(connection, caller, submission, settings.customers)
        except TooMany as refused:
            events.publish(Refused(terms.tier.tier, refused.code))
            raise
    today = made.day
    day = day_left(made.terms.daily_quota, today.accepted, today.resets_in) if today is not None else None
    response.headers.update(rate_headers([left, day]))
    response.headers["Location"] = f"/v1/workflows/{workflow.name}/jobs/{made.accepted.job_id}"
    found = _accepted(made.accepted) | {"status": "PENDING", "priority": made.band}
    return JobAccepted.model_validate(found | await _expected(access, made.accepted.job_id))


@router.get(
    "/v1/workflows/{workflow}/jobs",
    summary="Your jobs of a workflow",
    dependencies=_READ,
    responses=problems(404, 422, 503),
)
async def list_workflow_jobs(
    workflow: WorkflowDep,
    caller: CallerDep,
    access: AccessDep,
    before: Annotated[int, Query(ge=1, le=LAST_ID, description="next_before of the page before")] = LAST_ID,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> JobList:
    """Newest first."""
    async with access.read() as connection:
        found = await repository.list_accepted(
            connection, caller.customer_id, workflow=workflow.name, before=before, most=limit
        )
        states = await repository.read_queue_states(connection, [one.job_id for one in found])
    return JobList(
        jobs=[_state(one, states.get(one.job_id)) for one in found],
        next_before=found[-1].job_id if len(found) == limit else None,
    )


@router.get(
    "/v1/workflows/{workflow}/jobs/{job_id}",
    summary="Where your job stands",
    dependencies=_READ,
    responses=problems(404, 503),
)
async def get_workflow_job(
    workflow: WorkflowDep, job_id: JobIdDep, caller: CallerDep, access: AccessDep
) -> JobState:
    """404 for a job that is not yours."""
    async with access.read() as connection:
        accepted, state = await service.find_job(connection, caller.customer_id, workflow.name, job_id)
    return _state(accepted, state).model_copy(update=await _expected(access, job_id))


@router.get(
    "/v1/workflows/{workflow}/jobs/{job_id}/result",
    summary="What your job answered",
    dependencies=_READ,
    responses=problems(404, 409, 503),
)
async def get_workflow_result(
    workflow: WorkflowDep, job_id: JobIdDep, caller: CallerDep, access: AccessDep
) -> CustomerJobResult:
    """409 (wrong-state) as long as it has not succeeded; results are kept for a week."""
    async with access.read() as connection:
        accepted, state = await service.find_job(connection, caller.customer_id, workflow.name, job_id)
        status = _status(accepted, state)
        if status != "SUCCEEDED":
            raise not_finished(status)
        if state is None:
            raise unknown_job()
        found = await admin.read_job(connection, job_id)
    return CustomerJobResult(job_id=job_id, result=found["result"])


@router.post(
    "/v1/workflows/{workflow}/jobs/{job_id}/cancel",
    summary="Cancel your job",
    dependencies=_SUBMIT,
    responses=_CANCELLED | problems(404, 409, 503),
)
async def cancel_workflow_job(
    workflow: WorkflowDep,
    job_id: JobIdDep,
    response: Response,
    caller: CallerDep,
    access: AccessDep,
    registry: RegistryDep,
) -> JobCancelled:
    """At once when it waits; by its worker's next heartbeat when it runs (202)."""
    async with access.write_at_once() as connection:
        answer = await service.cancel_job(connection, registry, caller.customer_id, workflow.name, job_id)
    response.status_code = 200 if answer == "CANCELLED" else 202
    return JobCancelled.model_validate({"job_id": job_id, "cancel": answer})


# --- the account --------------------------------------------------------------------------------------------


async def _terms(caller: CallerDep, access: AccessDep) -> Terms:
    """The caller's terms; made at first sight."""
    async with access.write_at_once() as connection:
        return await service.meet(connection, caller)


TermsDep = Annotated[Terms, Depends(_terms)]
MonthPath = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])$"})]


@router.get(
    "/v1/account",
    summary="Your plan, limits and what is used today",
    dependencies=_ACCOUNT,
    responses=problems(422, 503),
)
async def get_account(terms: TermsDep, access: AccessDep) -> Account:
    """What holds now."""
    async with access.read() as connection:
        return await accounts.read_account(connection, terms)


@router.patch(
    "/v1/account",
    summary="Change how you are told",
    dependencies=_CHANGE,
    responses=problems(400, 413, 415, 422, 503),
    openapi_extra=json_body(ChangeAccount),
)
async def change_account(
    request: Request, terms: TermsDep, access: AccessDep, settings: SettingsDep
) -> AccountChanged:
    """Fields that are left out stay. A new webhook_url gets a new secret, told in this answer alone."""
    change = validate(ChangeAccount, await read_json(request, limit=BODY_LIMIT))
    customer_id = terms.customer.customer_id
    private = settings.notifications.webhook_private_addresses
    async with access.write_at_once() as connection, connection.transaction():
        return await accounts.change_account(
            connection, customer_id, change, actor=customer_id, private=private, ring=keyring(settings)
        )


@router.get(
    "/v1/account/usage",
    summary="Your usage, in real time",
    dependencies=_ACCOUNT,
    responses=problems(422, 503),
)
async def get_usage(
    terms: TermsDep,
    access: AccessDep,
    month: Annotated[
        str | None, Query(pattern="^20[0-9]{2}-(0[1-9]|1[0-2])$", description="Like 2026-11; default: now")
    ] = None,
) -> dict[str, Any]:
    """As much as the plan shows: full, monthly, basic or limited."""
    wanted = billing.read_month(month) if month is not None else None
    async with access.read() as connection:
        return await reports.report_usage(connection, terms, wanted)


@router.get(
    "/v1/account/invoices/{month}",
    summary="A month's invoice",
    dependencies=_ACCOUNT,
    responses=problems(409, 422, 503),
)
async def get_invoice(month: MonthPath, terms: TermsDep, access: AccessDep) -> Invoice:
    """As issued, or a preview (its number is null) of what it would be if the month ended now."""
    async with access.read() as connection:
        return await billing.preview_invoice(
            connection, terms.customer.customer_id, billing.read_month(month)
        )


@router.get(
    "/v1/account/invoices/{month}/page",
    summary="The same as a page to print",
    dependencies=_ACCOUNT,
    response_class=HTMLResponse,
    responses=problems(409, 422, 503),
)
async def get_invoice_page(month: MonthPath, terms: TermsDep, access: AccessDep) -> HTMLResponse:
    """HTML in the customer's language."""
    invoice = await get_invoice(month, terms, access)
    return HTMLResponse(
        billing.render_invoice(invoice, terms.customer.language),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


@router.get(
    "/v1/account/notifications",
    summary="What you were told",
    dependencies=_ACCOUNT,
    responses=problems(422, 503),
)
async def get_notifications(terms: TermsDep, access: AccessDep) -> Notifications:
    """The latest 100, newest first."""
    async with access.read() as connection:
        return Notifications(notifications=await accounts.list_notifications(connection, terms))


@router.get(
    "/health/workflows",
    summary="Do the workflows work?",
    tags=["health"],
    dependencies=[Depends(public)],
    responses=problems(503),
)
async def get_workflow_health(access: AccessDep, settings: SettingsDep) -> list[health.WorkflowHealth]:
    """The last canary job of each workflow; `healthy` is null before the first answer is due."""
    async with access.read() as connection:
        return await health.read_health(connection, settings.customers)


async def _expected(access: Access, job_id: int) -> dict[str, Any]:
    """Position and ETA; nothing rather than an error, because the job is accepted whatever is known of it."""
    try:
        async with access.read() as connection:
            row = await EtaStore(connection).read_eta(job_id)
    except Unavailable:
        return {}
    return (
        {"position": row["position"], "eta": Eta.model_validate(row, extra="ignore")}
        if row is not None
        else {}
    )


def _accepted(one: Accepted) -> dict[str, Any]:
    names = ("job_id", "workflow", "tier", "overage", "accepted_at", "wait_until")
    return {name: getattr(one, name) for name in names}


def _status(accepted: Accepted, state: dict[str, Any] | None) -> str:
    """As the queue says; as the customer's row says once the queue no longer keeps the job."""
    return str(state["status"] if state is not None else accepted.outcome or "CANCELLED")


def _state(accepted: Accepted, state: dict[str, Any] | None) -> JobState:
    found = state or {}
    pending = found.get("status") == "PENDING"
    return JobState.model_validate(
        _accepted(accepted)
        | {
            "status": _status(accepted, state),
            "priority": found.get("priority", band_of(accepted.priority)),
            "waiting_for": found.get("waiting_for"),
            "attempt": found.get("attempt"),
            "next_attempt_at": found.get("next_attempt_at") if pending else None,
            "started_at": found.get("started_at") or accepted.started_at,
            "ended_at": found.get("finished_at") or accepted.ended_at,
            "error_class": found.get("error_class") or accepted.error_class,
        }
    )
