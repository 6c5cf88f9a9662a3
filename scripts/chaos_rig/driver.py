"""The workload: clients that enqueue and call the API, and write down each call before it is sent and how it ended.

What a client cannot know it calls unknown; what it calls failed must never turn up.
"""

import asyncio
import copy
import queue
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg

from app.config import DatabaseSettings
from app.database.connect import connect, connect_sync
from app.domains.conversations.schemas import EXAMPLE
from app.errors import AppError, Conflict
from app.queue.admin import cancel_job
from app.queue.enqueue import enqueue
from app.queue.job import NewJob, Unique
from app.queue.kinds import Registry
from scripts.chaos_rig.history import ASKED
from scripts.chaos_rig.journal import Journal
from scripts.chaos_rig.observer import LIMITED, ORDERED
from scripts.chaos_rig.redriver import Redriver

CALL_SECONDS = 4.0
MIX = {
    "plain": 16,
    "tx": 20,
    "thread": 12,
    "process": 2,
    "flaky": 10,
    "delayed": 10,
    "unique": 12,
    "rollback": 6,
    "cancel": 6,
    "ordered": 14,
    "limited": 14,
    "mortal": 4,
    "redrive": 3,
    "conversation": 22,
}
KINDS = {
    "plain": "chaos.plain",
    "delayed": "chaos.plain",
    "thread": "chaos.thread",
    "process": "chaos.process",
    "flaky": "chaos.flaky",
    "mortal": "chaos.mortal",
    "ordered": "chaos.ordered",
}
QUEUES = {"ordered": (ORDERED, 5), "limited": (LIMITED, 3)}
"""Managed queues, and how many keys they have here: few, so that jobs wait for each other."""
USERS = 12
# Long ones are what a stopped worker still holds when it goes on; in a thread nothing can interrupt them.
WORK_SECONDS, WORK_SHARES, THREAD_SHARES = (0.0, 0.05, 0.5, 2.0), (62, 20, 12, 6), (30, 20, 15, 35)
SETTINGS = DatabaseSettings(connect_timeout_seconds=2, call_timeout_seconds=CALL_SECONDS)
# A client that hangs inside its transaction must not hold a unique key for longer than others wait.
SESSION = {"idle_in_transaction_session_timeout": "2500", "lock_timeout": "2000"}


class Workload:
    """Some client threads until `stop`. `unexpected` are answers that no fault excuses."""

    def __init__(
        self, journal: Journal, *, database: str, api: str, seed: int, clients: int, rate: float
    ) -> None:
        self.journal = journal
        self.redriver = Redriver(journal, SETTINGS)
        self.unexpected: list[str] = []
        self._database = database
        self._api = api
        self._pause = clients / rate
        self._stop = threading.Event()
        self._again: queue.SimpleQueue[Callable[[Client], object]] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(number, seed), name=f"client-{number}", daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        """Start the clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish the call it is in."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def repeat(self, call: Callable[["Client"], object]) -> None:
        """Have some client do this as well, soon."""
        self._again.put(call)

    def _run(self, number: int, seed: int) -> None:
        choice = random.Random(f"{seed}/client/{number}")  # noqa: S311 - which calls are made
        client = Client(self, number, choice, self._database, self._api)
        try:
            while not self._stop.is_set():
                try:
                    self._again.get_nowait()(client)
                except queue.Empty:
                    client.call()
                self._stop.wait(choice.expovariate(1 / self._pause))
        except Exception as error:
            self.unexpected.append(f"client {number} ended: {type(error).__name__}: {error}")
            raise
        finally:
            client.close()


class Client:
    """One client with its connection and its HTTP session."""

    def __init__(
        self, workload: Workload, number: int, choice: random.Random, database: str, api: str
    ) -> None:
        self.workload = workload
        self.choice = choice
        self._journal = workload.journal
        self._name = f"{number}"
        self._count = 0
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None
        self._http = httpx.Client(base_url=api, timeout=CALL_SECONDS + 4)

    def call(self) -> None:
        """One call of the mix."""
        kind = self.choice.choices(list(MIX), list(MIX.values()))[0]
        self._count += 1
        op = f"{kind}-{self._name}-{self._count}"
        if kind == "redrive":
            self.workload.redriver.redrive_some(self._database, self.choice)
        elif kind == "conversation":
            self.end_conversation(op, _body(op, self.choice))
        else:
            self._enqueue_new(op, kind)

    def _enqueue_new(self, op: str, kind: str) -> None:
        work = self.choice.choices(WORK_SECONDS, THREAD_SHARES if kind == "thread" else WORK_SHARES)[0]
        waits = kind == "delayed" or (kind == "cancel" and self.choice.random() < 0.5)
        due = datetime.now(UTC) + timedelta(seconds=self.choice.uniform(0.5, 5)) if waits else None
        job = NewJob(
            self._kind(kind),
            {"op": op, "work": work} | self._fate(kind),
            priority=self.choice.randrange(10),
            run_at=due,
            unique=Unique(op, "forever") if kind == "unique" else None,
            **self._line(kind),
        )
        if kind == "unique":
            for _ in range(self.choice.randrange(1, 4)):
                self.workload.repeat(lambda client: client.enqueue(op, kind, job))
        made = self.enqueue(op, kind, job)
        if kind == "cancel" and made is not None:
            self.cancel(op, made)

    def _kind(self, kind: str) -> str:
        if kind == "limited":  # two kinds in one queue; one of them has a limit of its own
            return self.choice.choice(("chaos.limited", "chaos.limited", "chaos.tx"))
        return KINDS.get(kind, "chaos.tx")

    def _fate(self, kind: str) -> dict[str, bool]:
        """What goes wrong in the handler itself: a failed try, or a dead letter that waits for its redrive."""
        chance = self.choice.random()
        if kind == "mortal" or (kind in QUEUES and chance < 0.06):
            return {"dies": True}
        return {"fails": True} if kind in QUEUES and chance < 0.2 else {}

    def _line(self, kind: str) -> dict[str, Any]:
        """Queue and key; jobs that will be cancelled stand in all queues."""
        if kind == "cancel":
            kind = self.choice.choice(("", *QUEUES))
        if kind not in QUEUES:
            return {}
        queue_name, keys = QUEUES[kind]
        return {"queue": queue_name, "partition_key": f"key-{self.choice.randrange(keys)}"}

    # --- jobs ------------------------------------------------------------------------------------------------

    def enqueue(self, op: str, kind: str, job: NewJob) -> int | None:
        """Enqueue in a transaction of our own, and note how that ended; answers the id that was acknowledged."""
        call = self._journal.invoke(
            op,
            kind,
            due=job.run_at.timestamp() if job.run_at else None,
            key=job.partition_key if kind == "ordered" else None,
        )
        committing = False
        try:
            connection = self._connected()
            answer = enqueue(connection, job)
            if kind == "rollback":
                connection.rollback()
                self._journal.fail(call, "rolled back")
                return None
            committing = True
            connection.commit()
        except (psycopg.Error, AppError) as error:
            self._drop_connection()
            state = getattr(error, "sqlstate", None)
            why = f"{type(error).__name__} {state}: {str(error).strip().splitlines()[:1]}"
            if committing and state is None:
                self._journal.unknown(call, why)
            else:
                self._journal.fail(call, why)
                if state is not None and state[:2] not in ("57", "55", "40", "53", "25", "08"):
                    self.workload.unexpected.append(f"{op}: {why}")
            return None
        self._journal.ok(call, answer.job_id)
        return answer.job_id

    def cancel(self, op: str, job_id: int) -> None:
        """Ask for the job's cancel, and note what was answered: CANCELLED, REQUESTED, or that it came too late."""
        call = self._journal.invoke(f"{op}{ASKED}", "asked")
        try:
            self._journal.ok(call, asyncio.run(_cancel(self._database, job_id)))
        except Conflict:
            self._journal.ok(call, "TOO LATE")
        except (psycopg.Error, AppError) as error:
            self._journal.unknown(call, f"{type(error).__name__}: {error}")

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect_sync(
                self._database, name="client", autocommit=False, settings=SETTINGS, session=SESSION
            )
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- conversations -----------------------------------------------------------------------------------------

    def end_conversation(self, op: str, body: dict[str, Any]) -> None:
        """Report a conversation; mostly repeat it until it is acknowledged, and sometimes once more after that."""
        for _ in range(6):
            acknowledged = self._post(op, body)
            if acknowledged and self.choice.random() < 0.8:
                return
            if not acknowledged and self.choice.random() < 0.3:
                return  # some outcomes stay unknown to the client
            time.sleep(self.choice.uniform(0.0, 0.2))

    def _post(self, op: str, body: dict[str, Any]) -> bool:
        call = self._journal.invoke(op, "conversation")
        try:
            response = self._http.post("/v1/conversations/end", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._journal.fail(call, f"never sent: {type(error).__name__}")
            return False
        except httpx.TransportError as error:
            self._journal.unknown(call, f"{type(error).__name__}: {error}")
            return False
        if response.status_code == 202:
            self._journal.ok(call, response.json()["event_id"])
            return True
        problem = response.json().get("type", "").rpartition(":")[2] if response.status_code >= 400 else "?"
        why = f"{response.status_code} {problem}"
        if problem == "outcome-unknown":
            self._journal.unknown(call, why)
            return False
        self._journal.fail(call, why)
        if response.status_code != 503 or "retry-after" not in response.headers:
            self.workload.unexpected.append(f"{op}: {why}: {response.text[:200]}")
        return False

    def close(self) -> None:
        """Let go of connection and session."""
        self._drop_connection()
        self._http.close()


async def _cancel(database: str, job_id: int) -> str:
    async with await connect(database, name="client", settings=SETTINGS, session=SESSION) as connection:
        return await cancel_job(connection, Registry(), job_id, by="chaos")


def _body(op: str, choice: random.Random) -> dict[str, Any]:
    """A short conversation of one of a few users, so that some wait for each other."""
    begun = datetime.now(UTC) - timedelta(minutes=choice.randrange(5, 500))
    body = copy.deepcopy(EXAMPLE)
    turns = choice.randrange(2, 8)
    log = [copy.deepcopy(body["conversation_log"][number % 2]) for number in range(turns)]
    for number, turn in enumerate(log):
        turn["timestamp"] = (begun + timedelta(seconds=5 * number)).isoformat()
    return body | {
        "conversation_id": op,
        "profile_id": f"user-{choice.randrange(USERS)}",
        "start_time": begun.isoformat(),
        "end_time": (begun + timedelta(minutes=2)).isoformat(),
        "conversation_log": log,
    }
