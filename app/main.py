"""create_app(): the API process put together from its parts. Wiring only.

`uvicorn --factory app.main:create_app`, or `tandem api`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from fastapi import Depends, FastAPI

from app.api import documents, health, job_events, jobs, limits, openapi, problems, queues, schedules
from app.api.access import Access
from app.api.auth import Guard, check_routes, requires
from app.api.cursor import Cursors
from app.api.edge import Edge
from app.api.health import Readiness
from app.applications import customer_workflows, make_registry
from app.config import Settings, load_settings
from app.database import durability
from app.database.location import database
from app.database.sessions import Sessions
from app.domains.conversations import router as conversations
from app.domains.customers.admin_router import router as customer_administration
from app.domains.customers.router import router as customers
from app.domains.topics import denials
from app.domains.topics.consume_router import router as consume_router
from app.domains.topics.router import publish_router, queue_router
from app.domains.topics.router import router as topics
from app.observability.metrics import PoolGauges, open_metrics
from app.observability.scraping import scrape

DESCRIPTION = """A PostgreSQL-native transactional job queue: an event and the job it causes commit together.

Errors are problem details (RFC 9457). After a 503 repeat the call unchanged: no call is ever half done."""


def create_app(settings: Settings | None = None, *, url: str | None = None) -> FastAPI:
    """The application. Without `url` it works on the settings' database, else on the checkout's embedded one."""
    settings = settings or load_settings()
    app = FastAPI(
        title="Tandem",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=_lifespan(settings, url),
        redirect_slashes=False,
        # Served by documents.py, to callers who may read them.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
    )
    key = settings.api.cursor_key
    app.state.settings = settings
    app.state.workflows = customer_workflows(settings)
    app.state.guard = Guard(settings)
    app.state.cursors = Cursors(key.get_secret_value() if key is not None else None)
    problems.install(app)
    app.add_middleware(Edge)
    conversations.install(app)
    app.include_router(publish_router)
    app.include_router(queue_router)
    app.include_router(topics)
    app.include_router(consume_router)
    app.include_router(customers)
    app.include_router(customer_administration)
    app.include_router(jobs.router)
    app.include_router(job_events.router)
    app.include_router(queues.router)
    app.include_router(schedules.router)
    app.include_router(limits.router)
    app.include_router(health.router)
    app.include_router(documents.router)
    app.add_api_route(
        "/metrics",
        scrape,
        include_in_schema=False,
        response_model=None,
        dependencies=[Depends(requires("metrics:read"))],
    )
    openapi.install(app, permissions=check_routes(app))
    return app


def _lifespan(settings: Settings, url: str | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.guard.announce()
        async with AsyncExitStack() as stack:
            address = await _address(stack, settings, url)
            app.state.metrics = stack.enter_context(open_metrics(settings, address))
            access = Access(address, settings)
            stack.push_async_callback(access.close)
            app.state.metrics.register(PoolGauges({"api": access.pool}))
            app.state.access = access
            stack.push_async_callback(app.state.conversation_ends.close)
            await stack.enter_async_context(denials.audited(access.write_at_once))
            # Of the kinds only hooks run here, and those bring their connection: these are never opened.
            sessions = Sessions(address, name="api", settings=settings.database)
            app.state.registry = make_registry(settings, sessions)
            app.state.readiness = Readiness(access)
            yield

    return lifespan


async def _address(stack: AsyncExitStack, settings: Settings, url: str | None) -> str:
    """The database's address; starts the embedded server if need be, in a thread because that takes a while."""
    if url is not None:
        return url
    place = database(settings)
    location = await asyncio.to_thread(place.__enter__)
    stack.push(place.__exit__)
    await asyncio.to_thread(durability.check, location.url, settings=settings.database)
    return location.url
