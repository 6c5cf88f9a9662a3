"""docs/reliability.md: every fault and every bug of others has its row, and what it names exists."""

import re

import pytest

from app.config import CHECKOUT

TEXT = (CHECKOUT / "docs" / "reliability.md").read_text()
ROWS = {row[0]: row for row in re.findall(r"^\| ([FR]\d+) \| (.*)$", TEXT, re.MULTILINE)}
NAMED = re.findall(r"`((?:tests|deploy|scripts)/[\w/.]+?)(?:::(\w+))?`", TEXT)


def test_every_fault_and_every_bug_is_there_once() -> None:
    found = re.findall(r"^\| ([FR]\d+) \|", TEXT, re.MULTILINE)
    assert sorted(found) == sorted([f"F{n}" for n in range(1, 59)] + [f"R{n}" for n in range(1, 27)])


@pytest.mark.parametrize(
    "row", [row for name, row in ROWS.items() if name.startswith("F")], ids=lambda row: row[0]
)
def test_a_fault_has_a_state_and_a_reason(row: tuple[str, str]) -> None:
    cells = [cell.strip() for cell in row[1].split(" | ")]
    assert len(cells) == 3, cells
    assert re.match(r"tested|chaos|partly|not yet|out", cells[1]), cells[1]
    if cells[1].startswith(("tested", "chaos")):
        assert "`" in cells[2] + cells[1], "a test or a fault of scripts/chaos is named"


@pytest.mark.parametrize(("path", "test"), sorted(set(NAMED)))
def test_what_is_named_exists(path: str, test: str) -> None:
    target = CHECKOUT / path
    assert target.exists(), path
    if test:
        assert re.search(rf"^(async )?def {test}\(", target.read_text(), re.MULTILINE), f"{path}::{test}"
