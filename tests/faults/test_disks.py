"""A disk that is full, for data or for WAL: nothing acknowledged is lost, and work goes on with room (F28, F29)."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from app.database import embedded, migrate
from app.database.account import give
from app.database.cluster import Cluster
from app.queue.job import NewJob
from tests.support import servers
from tests.support.conversations import END, body, make_settings, serving
from tests.support.jobs import enqueue_all, outcomes, unfinished
from tests.support.ledger import make_ledger
from tests.support.membership import check_membership
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

pytestmark = [pytest.mark.chaos, pytest.mark.embedded]


@contextlib.contextmanager
def small_disk(cluster: Cluster, megabytes: int) -> Iterator[Path]:
    """A file system of its own for the server's account; skips where none can be mounted."""
    place = Path(tempfile.mkdtemp(prefix="disk-", dir=cluster.base.parent))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs root and the right to mount")
    give(place, cluster.account)
    try:
        yield place
    finally:
        cluster.stop(mode="immediate")
        subprocess.run(["umount", "-l", str(place)], check=False)


async def test_f28_a_full_disk_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    with servers.open_directory() as place:
        cluster = embedded.cluster_at(place / "pg", {**servers.CARELESS, "restart_after_crash": "on"})
        url = cluster.url(cluster.start())
        with small_disk(cluster, 24) as disk:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(disk)))
                )
                connection.execute("SET default_tablespace = small")
                connection.execute("CREATE TABLE filler (bytes bytea)")
                connection.execute("ALTER TABLE filler ALTER bytes SET STORAGE EXTERNAL")
                connection.execute("ALTER ROLE tandem SET default_tablespace = small")
            migrate.upgrade(url)
            make_ledger(url)
            acknowledged = enqueue_all(url, [NewJob("succeed") for _ in range(20)])
            with (
                psycopg.connect(url, autocommit=True) as connection,
                contextlib.suppress(psycopg.errors.DiskFull),
            ):
                while True:
                    connection.execute("INSERT INTO filler VALUES (decode(repeat('ab', 200000), 'hex'))")
            with worker_process(url, tmp_path, lease_seconds=2.0):
                with pytest.raises(psycopg.errors.DiskFull):
                    while len(acknowledged) < 5000:
                        acknowledged += enqueue_all(
                            url, [NewJob("succeed", {"x": "y" * 500}) for _ in range(20)]
                        )
                async with serving(url, make_settings(api={"request_seconds": 2.0})) as client:
                    answers = {(await client.post(END, json=body(f"c{n}"))).status_code for n in range(60)}
                    assert answers <= {202, 503}
                    with psycopg.connect(url, autocommit=True) as connection:
                        connection.execute("DROP TABLE filler")
                        connection.execute("CHECKPOINT")
                    assert (await client.post(END, json=body())).status_code == 202
                eventually(lambda: set(outcomes(url, acknowledged)) == {"SUCCEEDED"}, timeout=60)
            check_membership(url)


def test_f29_a_full_wal_disk_stops_the_server_and_loses_nothing(tmp_path: Path) -> None:
    """PostgreSQL panics and cannot recover until there is room; the worker waits for it."""
    with servers.open_directory() as place:
        settings = {**servers.CARELESS, "min_wal_size": "32MB", "max_wal_size": "1GB", "wal_recycle": "off"}
        cluster = embedded.cluster_at(place / "pg", {**settings, "checkpoint_timeout": "1h"})
        url = cluster.url(cluster.start())
        migrate.upgrade(url)
        make_ledger(url)
        cluster.stop()
        with small_disk(cluster, 128) as disk:
            wal = cluster.data / "pg_wal"
            for file in wal.iterdir():
                moved = shutil.move(file, disk / file.name)
                give(Path(moved), cluster.account)
            wal.rmdir()
            wal.symlink_to(disk)
            url = cluster.url(cluster.start())
            acknowledged: list[int] = []
            with worker_process(url, tmp_path, lease_seconds=2.0) as worker:
                worker.started()
                with pytest.raises(psycopg.OperationalError):
                    while len(acknowledged) < 5000:
                        acknowledged += enqueue_all(url, [NewJob("succeed") for _ in range(5)])
                        with psycopg.connect(url, autocommit=True) as connection:
                            connection.execute(
                                "SELECT count(pg_logical_emit_message(false, 'fill', repeat(md5(n::text), 30000)))"
                                " FROM generate_series(1, 6) AS n"
                            )
                eventually(lambda: "No space left" in cluster.log.read_text(errors="replace"))
                subprocess.run(["mount", "-o", "remount,size=512m", str(disk)], check=True)
                cluster.stop(mode="immediate")
                cluster.start()
                eventually(lambda: unfinished(url) == 0, timeout=60)
                assert worker.process.poll() is None
            assert len(acknowledged) > 0
            assert set(outcomes(url, acknowledged)) == {"SUCCEEDED"}
            check_membership(url)
