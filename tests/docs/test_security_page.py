"""docs/security.md accounts for every threat of the catalogue, and every test that it names is there."""

import re

from app.api.principals import GRANTS
from app.config import CHECKOUT

PAGE = (CHECKOUT / "docs" / "security.md").read_text()
THREATS = 36


def rows(page: str) -> dict[str, list[str]]:
    """The table's rows by their ids."""
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.splitlines()
        if line.startswith("| S")
    ]
    return {row[0]: row[1:] for row in cells}


def test_every_threat_has_a_row_with_a_test_or_a_reason() -> None:
    found = rows(PAGE)
    assert list(found) == [f"S{number}" for number in range(1, THREATS + 1)]
    for threat, cells in found.items():
        assert len(cells) == 3, threat
        assert all(cells), threat
        for name in re.findall(r"`(tests/[\w/.]+)`", cells[2]):
            assert (CHECKOUT / name).is_file(), (threat, name)


def test_a_row_that_is_missing_would_be_noticed() -> None:
    assert "S7" not in rows(PAGE.replace("| S7 ", "| X7 "))


def test_the_roles_are_those_of_the_code() -> None:
    told = PAGE.partition("| role | may |")[2].partition("\n\n")[0]
    assert re.findall(r"(?m)^\| `(\w+)` \|", told) == list(GRANTS)
