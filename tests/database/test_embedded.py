"""The embedded server alone: how it starts, guards itself, and comes back after a crash."""

import os
import signal
from pathlib import Path

import psutil
import psycopg
import pytest

from app.database import embedded
from app.database.cluster import NO_SUCH_PROCESS, Cluster, Postmaster
from app.errors import ConfigurationError
from tests.support.waiting import eventually

pytestmark = pytest.mark.embedded


def find(root: Path) -> tuple[Cluster, Postmaster]:
    """The running server of a checkout."""
    found = embedded.find(root)
    assert found is not None
    return found


def kill(pid: int) -> None:
    """End a process the hard way and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def write(url: str, value: str) -> None:
    """Commit a row that must survive."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))


def read(url: str) -> list[str]:
    """What was written."""
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def test_it_runs_postgresql_18_with_utf8_and_stops_with_its_last_user(open_directory: Path) -> None:
    with embedded.running(open_directory) as url:
        with psycopg.connect(url) as connection:
            assert connection.info.server_version >= 180000
            assert connection.execute("SELECT lower('ĐẸP'), current_database()").fetchone() == (
                "đẹp",
                "tandem",
            )
        with embedded.running(open_directory) as again:
            assert again == url
        assert embedded.find(open_directory) is not None
        pid = find(open_directory)[1].pid
    assert embedded.find(open_directory) is None
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_socket_is_its_owners_and_tcp_asks_for_the_password(open_directory: Path) -> None:
    with embedded.running(open_directory):
        cluster, postmaster = find(open_directory)
        assert Path(postmaster.socket_directory).stat().st_mode & 0o077 == 0
        assert cluster.data.stat().st_mode & 0o077 == 0
        tcp = cluster.url(postmaster, tcp=True)
        with psycopg.connect(tcp) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        password = (cluster.base / "password").read_text().strip()
        for wrong in (tcp.replace(f":{password}@", "@"), tcp.replace(password, "guess")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(wrong)


def test_data_and_address_survive_a_restart(open_directory: Path) -> None:
    with embedded.running(open_directory) as first:
        write(first, "one")
    with embedded.running(open_directory) as second:
        assert second == first
        assert read(second) == ["one"]


def test_settings_are_taken_over_at_the_next_start(open_directory: Path) -> None:
    for settings, expected in (({"work_mem": "7MB"}, "7MB"), ({}, "4MB")):
        with embedded.running(open_directory, settings=settings) as url, psycopg.connect(url) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == (expected,)


def test_a_killed_server_comes_back_with_its_data(open_directory: Path) -> None:
    with embedded.running(open_directory) as url:
        write(url, "committed")
        kill(find(open_directory)[1].pid)
        with embedded.running(open_directory) as again:
            assert read(again) == ["committed"]


def test_a_recorded_pid_that_now_is_a_stranger_does_not_stop_the_start(open_directory: Path) -> None:
    """As after a crash of the machine: PostgreSQL itself would refuse, for the process of that pid is alive."""
    with embedded.running(open_directory) as url:
        write(url, "before")
        cluster, postmaster = find(open_directory)
        left = (cluster.data / "postmaster.pid").read_text()
        cluster.stop(mode="immediate")
        (cluster.data / "postmaster.pid").write_text(left.replace(str(postmaster.pid), str(os.getpid()), 1))
        assert cluster.running() is None
        with embedded.running(open_directory) as again:
            assert read(again) == ["before"]
    assert not psutil.pid_exists(NO_SUCH_PROCESS)


def test_an_interrupted_first_start_is_begun_again(open_directory: Path) -> None:
    half_made = open_directory / ".tandem" / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with embedded.running(open_directory) as url:
        write(url, "x")
    assert not half_made.exists()


def test_a_taken_port_is_replaced(open_directory: Path) -> None:
    with embedded.running(open_directory) as url:
        write(url, "x")
        base = find(open_directory)[0].base
    with embedded.running(_made(open_directory / "other")):
        (base / "port").write_text(str(find(open_directory / "other")[1].port))
        with embedded.running(open_directory) as moved:
            assert moved != url
            assert read(moved) == ["x"]


def test_a_long_path_gets_a_short_socket(open_directory: Path) -> None:
    deep = _made(open_directory / ("d" * 60) / ("e" * 60))
    with embedded.running(deep) as url:
        postmaster = find(deep)[1]
        assert len(postmaster.socket_directory) + len("/.s.PGSQL.65535") <= 107
        assert Path(postmaster.socket_directory).stat().st_mode & 0o077 == 0
        write(url, "x")
    Path(postmaster.socket_directory).rmdir()


def test_a_checkout_that_the_servers_account_cannot_enter_works_too(
    tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one below /root; for an ordinary user nothing is closed and nothing moves."""
    monkeypatch.setattr(embedded, "SHARED_STATE", open_directory / "shared")
    tmp_path.chmod(0o700)
    with embedded.running(tmp_path) as url:
        write(url, "x")
        cluster, postmaster = find(tmp_path)
        assert psutil.Process(postmaster.pid).uids().effective != 0
        assert (tmp_path / ".tandem" / "postgres").resolve() == cluster.base.resolve()
    with embedded.running(tmp_path) as again:
        assert read(again) == ["x"]


def test_data_of_another_major_version_are_refused_untouched(open_directory: Path) -> None:
    with embedded.running(open_directory):
        data = find(open_directory)[0].data
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match="made by PostgreSQL 16") as caught:
        embedded.ensure_running(open_directory)
    assert caught.value.code == "data-of-another-version"


def test_a_place_that_cannot_be_written_is_refused_with_the_way_out(open_directory: Path) -> None:
    (open_directory / ".tandem").write_text("a file in the way")
    with pytest.raises(ConfigurationError, match="set DATABASE_URL") as caught:
        embedded.ensure_running(open_directory)
    assert caught.value.code == "checkout-not-writable"


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    for part in (path, path.parent):
        part.chmod(0o755)
    return path


def test_a_users_table_does_not_land_among_the_queues(open_directory: Path) -> None:
    with embedded.running(open_directory) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA tandem")
        connection.execute("CREATE TABLE schedule (id int)")
        found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'schedule'").fetchall()
    assert found == [("public",)]
