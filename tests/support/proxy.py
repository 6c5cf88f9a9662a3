"""A TCP proxy in front of PostgreSQL that can become a black hole: connections stay open, nothing passes."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

BUFFER = 65536


class Proxy:
    """Forwards to the server at `url` until `swallow()`; its own address is `url`."""

    def __init__(self, url: str) -> None:
        self._target = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._silent = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)
        user, database = quote(self._target.get("user", "postgres")), quote(self._target["dbname"])
        secret = f":{quote(self._target['password'])}" if "password" in self._target else ""
        port = self._listener.getsockname()[1]
        self.url = (
            f"postgresql://{user}{secret}@127.0.0.1:{port}/{database}?sslmode=disable&gssencmode=disable"
        )

    def swallow(self) -> None:
        """From now on whatever arrives disappears, in both directions."""
        self._silent.set()

    def heal(self) -> None:
        """Forward again; what was swallowed stays lost."""
        self._silent.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._open:
            # Closing alone would not wake a thread that reads.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._open += [client, server]
                self._start(self._pump, client, server)
                self._start(self._pump, server, client)

    def _connect(self) -> socket.socket:
        host, port = self._target.get("host", "127.0.0.1"), int(self._target.get("port", 5432))
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((host, port))

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BUFFER):
                if not self._silent.is_set():
                    sink.sendall(data)
            if not self._silent.is_set():
                sink.shutdown(socket.SHUT_WR)
