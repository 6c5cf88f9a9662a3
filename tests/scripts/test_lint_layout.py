"""The layout's rules, each with a planted violation that it must find and a near miss that it must not."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.config import CHECKOUT
from scripts.lint_layout import check

HEAD = '"""What it is."""\n\n'


def findings(root: Path, path: str, text: str) -> list[str]:
    """The rules that one file breaks."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return [one.rule for one in check(root)]


def function(lines: int) -> str:
    """A function of so many lines."""
    return HEAD + "def f() -> None:\n" + "    x = 1\n" * (lines - 1)


BROKEN = [
    ("module-size", "app/a.py", HEAD + "x = 1\n" * 399),
    ("module-size", "tests/test_a.py", HEAD + "x = 1\n" * 499),
    ("function-size", "app/a.py", function(61)),
    ("module-name", "app/queue/utils.py", HEAD),
    ("module-name", "workers/helpers.py", HEAD),
    ("module-docstring", "app/a.py", "x = 1\n"),
    ("module-docstring", "app/a.py", '"""1\n2\n3\n4\n5\n"""\n'),
    ("late-import", "app/queue/a.py", HEAD + "def f() -> None:\n    import os\n"),
    (
        "late-import",
        "workers/a.py",
        HEAD + "async def f() -> None:\n    if 1:\n        from os import path\n",
    ),
    ("commit-in-domain", "app/domains/topics/service.py", HEAD + "async def f(s):\n    await s.commit()\n"),
    ("sleep-in-test", "tests/test_a.py", HEAD + "import time\ntime.sleep(1)\n"),
    ("sleep-in-test", "tests/support/servers.py", HEAD + "from asyncio import sleep\nsleep(0.1)\n"),
    ("built-sql", "app/a.py", HEAD + 'c.execute(f"SELECT {x}")\n'),
    ("built-sql", "app/a.py", HEAD + 'c.execute("SELECT " + x)\n'),
    ("built-sql", "workers/a.py", HEAD + 'c.execute("SELECT %s" % x)\n'),
    ("built-sql", "app/a.py", HEAD + 's.execute(text("SELECT {}".format(x)))\n'),
    ("environment", "app/a.py", HEAD + 'import os\nos.environ["X"]\n'),
    ("environment", "workers/a.py", HEAD + 'import os\nos.getenv("X")\n'),
    ("client-alone", "app/client/enqueue.py", HEAD + "from app.errors import AppError\n"),
    ("sql-size", "sql/queries/a/b.sql", "SELECT 1\n" * 51),
    ("select-star", "sql/queries/a/b.sql", "SELECT\n  * FROM t"),
    ("select-star", "sql/queries/a/b.sql", "SELECT 1, t.* FROM t"),
    ("select-star", "sql/queries/a/b.sql", "DELETE FROM t RETURNING t.*"),
]

FINE = [
    ("app/a.py", HEAD + "x = 1\n" * 398),
    ("app/a.py", function(60)),
    ("app/__init__.py", ""),
    ("migrations/helpers.py", HEAD),
    ("app/cli/up.py", HEAD + "def f() -> None:\n    import os\n"),
    ("workers/__main__.py", HEAD + "def f() -> None:\n    import os\n"),
    ("app/queue/a.py", HEAD + "async def f(s):\n    await s.commit()\n"),
    ("tests/support/waiting.py", HEAD + "import time\ntime.sleep(1)\n"),
    ("tests/test_a.py", HEAD + "import asyncio\nasyncio.sleep(0)\n"),
    ("app/a.py", HEAD + 'c.execute("SELECT %s", (x,))\n'),
    ("app/a.py", HEAD + 'c.execute(sql.SQL("LISTEN {}").format(sql.Identifier(x)))\n'),
    ("app/a.py", HEAD + 'c.execute("SELECT 1" " + 1")\n'),
    ("app/config.py", HEAD + "import os\nos.environ\n"),
    ("app/client/enqueue.py", HEAD + "from .connection import x\n"),
    ("sql/schema.sql", "SELECT * FROM t;\n" * 100),
    ("sql/migrations/0001_x.up.sql", "SELECT 1;\n" * 100),
    ("sql/queries/a/b.sql", "-- like SELECT * FROM t\nSELECT count(*), 2 * 3 FROM t"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_a_planted_violation_is_found(tmp_path: Path, rule: str, path: str, text: str) -> None:
    assert findings(tmp_path, path, text) == [rule]


@pytest.mark.parametrize(("path", "text"), FINE)
def test_a_near_miss_is_left_alone(tmp_path: Path, path: str, text: str) -> None:
    assert findings(tmp_path, path, text) == []


def test_a_statement_file_is_named_like_what_runs_it(tmp_path: Path) -> None:
    assert findings(tmp_path, "sql/queries/claim/claim_jobs.sql", "SELECT 1") == []
    store = HEAD + "class Store:\n    def claim_jobs(self) -> None: ...\n"
    assert findings(tmp_path, "app/queue/store.py", store) == []
    assert findings(tmp_path, "sql/queries/enqueue/add_jobs.sql", "SELECT 1") == ["sql-name"]
    assert findings(tmp_path, "app/queue/enqueue.py", HEAD + 'statement("enqueue", "add_jobs")\n') == []


def test_a_line_is_excused_for_one_rule_and_with_a_reason(tmp_path: Path) -> None:
    sleep = HEAD + "import time\n"
    assert (
        findings(
            tmp_path, "tests/test_a.py", sleep + "time.sleep(1)  # layout: sleep-in-test - a slow handler\n"
        )
        == []
    )
    above = "# layout: sleep-in-test - a slow handler\ntime.sleep(1)\n"
    assert findings(tmp_path, "tests/test_a.py", sleep + above) == []
    for excuse in ("# layout: sleep-in-test", "# layout: built-sql - wrong rule"):
        assert findings(tmp_path, "tests/test_a.py", sleep + f"time.sleep(1)  {excuse}\n") == [
            "sleep-in-test"
        ]


def test_the_command_names_place_rule_and_way_out_and_fails(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "utils.py").write_text(HEAD)
    script = CHECKOUT / "scripts" / "lint_layout.py"
    result = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "app/utils.py:1: module-name:" in result.stdout
    assert "name the file for the idea it holds" in result.stdout
    assert "1 findings" in result.stderr


def test_this_checkout_keeps_its_own_rules() -> None:
    assert [str(one) for one in check(CHECKOUT)] == []
