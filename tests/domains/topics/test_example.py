"""The worked example, run in the test's own transaction: what a camera event leads to, stage by stage."""

import asyncio
import socket
from email.message import Message as Mail
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as SmtpHandler

from app.client import Message, publish_many
from app.config import NotificationSettings, TopicSettings
from app.domains.topics import example
from app.domains.topics.consumers import add_consumers
from app.queue.kinds import Registry
from tests.support import topics
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


class Mailbox(SmtpHandler):
    """A mail server that keeps subjects."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[str] = []

    def handle_message(self, message: Mail) -> None:
        """Keep it."""
        self.subjects.append(str(message["Subject"]))


def undone(url: str) -> Any:
    query = (
        "SELECT (SELECT count(*) FROM tandem.job) AS jobs, (SELECT count(*) FROM tandem.done) AS done,"
        " (SELECT count(*) FROM tandem.done WHERE outcome = 'DEAD') AS dead"
    )
    return topics.rows(url, query)[0]


def archived(folder: Path) -> str:
    """What went to long-term storage."""
    [archive] = folder.glob("audit.logs-*.jsonl")
    return archive.read_text()


@pytest.fixture
def mail_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_an_event_goes_through_four_topics(db_url: str, tmp_path: Path, mail_port: int) -> None:
    for topic, groups in example.GROUPS.items():
        topics.make_topic(db_url, topic, groups)
    mailbox = Mailbox()
    server = Controller(mailbox, hostname="127.0.0.1", port=mail_port)
    server.start()
    outbound = NotificationSettings(smtp_host="127.0.0.1", smtp_port=mail_port, smtp_security="none")
    settings = TopicSettings(archive_folder=tmp_path)
    frames = [{"camera": "gate-1", "frame": "~" * n} for n in range(1, 41)]  # 126 * n % 50 people
    crowds = [one["frame"] for one in frames if 126 * len(str(one["frame"])) % 50 >= example.CROWD]
    bodies = [*frames, {"camera": "gate-2", "kind": "error"}, {"camera": "gate-3", "frame": "unreadable"}]
    sms = {"channel": "sms", "to": "+84", "subject": "nobody has set a gateway"}
    try:
        registry = Registry()
        made = example.consumers(settings, outbound)
        add_consumers(registry, made)
        async with supervised(db_url, registry, queues={one.queue: 1 for one in made}):
            with psycopg.connect(db_url) as connection:
                publish_many(connection, example.CAMERAS, [Message(body) for body in bodies])
                publish_many(connection, example.NOTIFICATIONS, [Message(sms)])
            # 42 events to three groups, 40 results to two, mails, the SMS, and an audit log.
            jobs = 42 * 3 + 40 * 2 + len(crowds) + 1 + 1 + 1
            await eventually_async(lambda: undone(db_url).done == jobs, timeout=30)
    finally:
        await asyncio.to_thread(server.stop)
    assert undone(db_url).dead == 2  # the frame that nobody can read, and the SMS
    assert len(mailbox.subjects) == len(crowds) + 1
    assert "gate-2 reports an error" in mailbox.subjects
    assert '"camera-error"' in archived(tmp_path)
