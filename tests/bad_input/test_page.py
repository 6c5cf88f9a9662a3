"""docs/bad-input.md names tests that exist: a table that points nowhere promises nothing."""

import re

from app.config import CHECKOUT

PAGE = CHECKOUT / "docs" / "bad-input.md"
ROW = re.compile(
    r"^\| (?P<input>[^|]+) \| (?P<http>[^|]+) \| [^|]+ \| [^|]+ \| (?P<tests>[^|]+) \|$", re.MULTILINE
)
CODE = re.compile(r"\b(?:400|404|409|413|415|422|431|503) `([a-z-]+)`")


def rows() -> list[re.Match[str]]:
    """The rows of the table, without its head."""
    return [row for row in ROW.finditer(PAGE.read_text()) if row["input"].strip() not in ("input", "---")]


def test_every_row_names_a_test_that_exists() -> None:
    named: list[str] = []
    assert len(rows()) >= 35
    for row in rows():
        here = re.findall(r"`(tests/[\w/.]+)`", row["tests"])
        assert here or row["tests"].startswith("the same"), row["input"]
        named += here
    assert [name for name in set(named) if not (CHECKOUT / name).is_file()] == []


def test_every_code_of_the_page_is_one_of_the_services() -> None:
    source = "".join(path.read_text() for path in (CHECKOUT / "app").rglob("*.py"))
    codes = {code for row in rows() for code in CODE.findall(row["http"])}
    assert len(codes) > 15
    assert [code for code in codes if f'"{code}"' not in source] == []
