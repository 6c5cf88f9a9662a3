"""One exchange by httpx: a POST, and of its answer the status alone. Knows nothing of webhooks.

Loaded when the first one is sent: httpx takes memory that a worker without webhooks does not need.
"""

import asyncio
from collections.abc import Mapping

import httpx


class NoAnswerError(Exception):
    """Nobody answered in time; the text says in a word why."""


async def exchange(
    url: str, *, server_name: str, headers: Mapping[str, str], body: bytes, seconds: float
) -> int:
    """Send and answer the status. `server_name` is whose certificate it must be. Raises NoAnswerError."""
    request = httpx.Request(
        "POST",
        url,
        content=body,
        headers=headers,
        # The connection goes to the address; the certificate must be the name's.
        extensions={"sni_hostname": server_name, "timeout": httpx.Timeout(seconds).as_dict()},
    )
    try:
        # httpx bounds each read: a head that drips would go on and on.
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
        ):
            response = await client.send(request, stream=True)
            await response.aclose()  # whatever it says: only the status counts, and a body may have no end
    except (httpx.HTTPError, TimeoutError) as error:
        raise NoAnswerError(type(error).__name__) from error
    return response.status_code
