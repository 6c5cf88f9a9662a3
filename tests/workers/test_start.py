"""What a starting process loads: heavy libraries only where they are used. In processes of their own."""

import subprocess
import sys
import textwrap

import pytest

WORKER = """
    import asyncio
    from app.cli import worker
    from app.config import Settings
    from app.database import durability, location, version
    from app.observability.logging import set_up_logging
    from app.observability.metrics import start_worker_metrics
    from workers.wiring import make_supervisor

    async def main():
        make_supervisor(Settings(), "postgresql://nobody@127.0.0.1:1/none")

    asyncio.run(main())
"""
CHILD = "import workers.processes"
API = """
    from app.config import Settings
    from app.main import create_app
    create_app(Settings(), url="postgresql://nobody@127.0.0.1:1/none")
"""
CLI = "import app.cli.main, app.applications, app.cli.connected"
WEB = {"fastapi", "starlette", "uvicorn"}
SENDING = {"httpx", "jinja2"}
RARE = {"sqlalchemy", "alembic", "cryptography"}


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        (WORKER, RARE | WEB | SENDING),
        (CHILD, RARE | WEB | SENDING),
        (API, {"sqlalchemy", "alembic"} | SENDING),
        (CLI, RARE | WEB | SENDING),
    ],
    ids=["worker", "child of a worker", "API", "commands"],
)
def test_what_is_heavy_is_loaded_when_it_is_needed(program: str, unwanted: set[str]) -> None:
    report = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    code = f"{textwrap.dedent(program)}\n{report}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "psycopg" in loaded
    assert not loaded & unwanted
