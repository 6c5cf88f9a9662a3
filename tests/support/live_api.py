"""The API under its real server, in a thread of this process, and a way to send it bytes that no client would send."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from app.config import Settings
from app.main import create_app
from tests.support.waiting import eventually


@contextlib.contextmanager
def live_api(url: str, settings: Settings) -> Iterator[tuple[str, int]]:
    """Host and port of a running API for the length of a block."""
    config = uvicorn.Config(
        create_app(settings, url=url),
        port=0, log_config=None, http="httptools", loop="uvloop", access_log=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        yield host, port
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def exchange(address: tuple[str, int], request: bytes, *, timeout: float = 3) -> bytes:
    """Send bytes, read until the server closes or falls silent."""
    answer = b""
    with socket.create_connection(address, timeout=timeout) as client, contextlib.suppress(OSError):
        client.sendall(request)
        while data := client.recv(65536):
            answer += data
    return answer
