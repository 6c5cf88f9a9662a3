"""A proxy that lets what clients send reach the server, and can lose what the server answers: COMMIT happens unseen."""

import contextlib
import socket
import threading

from tests.support.proxy import BUFFER, Proxy


class LosingProxy(Proxy):
    """Forwards like its parent; after `lose_answers` the server's words disappear."""

    def __init__(self, url: str) -> None:
        self._losing = threading.Event()
        self._trigger: bytes | None = None
        super().__init__(url)

    def lose_answers_to(self, text: bytes) -> None:
        """Begin to lose answers when a client sends this text."""
        self._trigger = text

    def __enter__(self) -> "LosingProxy":
        return self

    def lose_answers(self) -> None:
        """From now on the server's answers are lost, and its connections look alive."""
        self._losing.set()

    def keep_answers(self) -> None:
        """Forward again."""
        self._trigger = None
        self._losing.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._open += [client, server]
                self._start(self._pump_questions, client, server)
                self._start(self._pump_answers, server, client)

    def _pump_questions(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(BUFFER):
                if self._trigger is not None and self._trigger in data:
                    self._losing.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pump_answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(BUFFER):
                if not self._losing.is_set():
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)
