"""The API's /metrics: what metrics.py has put together, as a route. Workers have a server of their own for that."""

import asyncio

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response


async def scrape(request: Request) -> Response:
    """The API's /metrics."""
    registry: CollectorRegistry = request.app.state.metrics
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # In a thread, because the gauges ask the database.
    return Response(await asyncio.to_thread(encode, registry), headers={"content-type": content_type})
