"""A proxy that cuts one connection after the server has answered and before the client hears it: nobody knows.

Connections are told apart by their application names, so one statement can be chosen among all of a worker's.
"""

import contextlib
import socket
import threading
from dataclasses import dataclass
from functools import partial

from tests.support.proxy import BUFFER, Proxy

READY = b"Z\x00\x00\x00\x05"
"""ReadyForQuery: the server has done what it was asked, a commit included."""


@dataclass
class Cut:
    """Which answer to cut: the next one to a request of this name's connections that contains the text."""

    name: bytes
    text: bytes


class CuttingProxy(Proxy):
    """Forwards everything, but for one answer after each `cut_answer`."""

    def __init__(self, url: str) -> None:
        self.cuts = 0
        self._armed: Cut | None = None
        self._arming = threading.Lock()
        super().__init__(url)

    def cut_answer(self, name: str, text: str = "") -> None:
        """Lose the answer to the next request that a connection named `name` sends and that contains `text`."""
        self._armed = Cut(name.encode(), text.encode())

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._open += [client, server]
                cutting = threading.Event()
                self._start(partial(self._ask, cutting=cutting), client, server)
                self._start(partial(self._answer, cutting=cutting), server, client)

    def _ask(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with contextlib.suppress(OSError):
            greeting = data = client.recv(BUFFER)
            while data:
                if data is not greeting and self._fires(greeting, data):
                    cutting.set()
                server.sendall(data)
                data = client.recv(BUFFER)
            server.shutdown(socket.SHUT_WR)

    def _fires(self, greeting: bytes, request: bytes) -> bool:
        with self._arming:
            cut = self._armed
            if cut is None or b"\0" + cut.name + b"\0" not in greeting or cut.text not in request:
                return False
            self._armed = None
            return True

    def _answer(self, server: socket.socket, client: socket.socket, cutting: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(BUFFER):
                if not cutting.is_set():
                    client.sendall(data)
                elif READY in data:
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
            client.shutdown(socket.SHUT_WR)
