"""The minimal handler beside W9: read a JSON body, one bare INSERT through the same pool, answer. Nothing else.

`uvicorn scripts.bench.minimal_api:app`, with DATABASE_URL set.
"""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from app.api.access import Access
from app.config import load_settings

INSERT = b"INSERT INTO public.minimal_event (id, body) VALUES (%s, %s::jsonb)"
TABLE = b"CREATE TABLE IF NOT EXISTS public.minimal_event (id uuid PRIMARY KEY, body jsonb NOT NULL)"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The API's own pool with its own settings."""
    settings = load_settings()
    access = app.state.access = Access(settings.database_url or "", settings)
    async with access.write_at_once() as connection:
        await connection.execute(TABLE)
    yield
    await access.close()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/conversations/end", status_code=202)
async def insert(request: Request) -> dict[str, str]:
    """One row in one transaction."""
    body = await request.body()
    json.loads(body)
    event = uuid.uuid4()
    async with app.state.access.write_at_once() as connection:
        await connection.execute(INSERT, [event, body.decode()])
    return {"event_id": str(event)}
