"""The pages on the command line and on /v1/jobs say what is there: commands, reasons, checks, paths, problems."""

import re

import typer

from app.api.problems import _STATUS_BY_CODE
from app.cli import main
from app.config import CHECKOUT, Settings
from app.main import create_app
from app.observability.doctor.examination import QUEUE, SERVER, SLOW
from app.queue.explain import CODES
from scripts.cli_reference import PAGE, commands, page, reference

CLI = PAGE.read_text()
API = (CHECKOUT / "docs" / "api.md").read_text()


def first_column(text: str, heading: str) -> list[str]:
    """The names in the first column of the first table below a heading."""
    below = text.partition(f"\n{heading}\n")[2]
    rows = re.search(r"^\|-[-|]*\n((?:\|.*\n)+)", below, re.MULTILINE)
    assert rows is not None
    cells = [line.split("|")[1] for line in rows[1].splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_the_reference_is_the_commands_own_help() -> None:
    assert page(CLI) == CLI, "refresh it: python -m scripts.cli_reference"


def test_the_reference_has_every_command_with_an_example() -> None:
    root = typer.main.get_command(main.app)
    for path, command in commands(root, ("tandem",)):
        section = reference().partition(f"# {' '.join(path)}\n")[2].partition("\n#")[0]
        assert section, path
        assert hasattr(command, "commands") or "```sh\n" in section, path


def test_every_reason_is_explained() -> None:
    assert sorted(first_column(CLI, "## Why does a job not run?")) == sorted(CODES)
    text = (CHECKOUT / "sql/functions/explain.sql").read_text()
    for code in CODES:
        assert f"'{code}'" in text or code.startswith("blocked-"), code


def test_every_check_is_explained() -> None:
    names = [check.__name__.removeprefix("check_").replace("_", "-") for check in (*SERVER, *QUEUE, *SLOW)]
    told = first_column(CLI, "## Check-up")
    assert sorted(told) == sorted([*names, "schema"])


def test_every_path_and_problem_is_told() -> None:
    document = create_app(Settings(), url="postgresql://nowhere").openapi()
    paths = [
        f"{method.upper()} {path.replace('{job_id}', '{id}')}"
        for path, methods in document["paths"].items()
        if path.startswith("/v1/jobs")
        for method in methods
    ]
    assert sorted(first_column("\n" + API, "# The HTTP API of the queue: /v1/jobs")) == sorted(paths)
    assert _STATUS_BY_CODE["bad-cursor"] == 400
    for code in ("bad-cursor", "unknown-job", "wrong-state", "hook-unknown"):
        assert f"`{code}`" in API
