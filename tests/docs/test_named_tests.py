"""Every test that a page of the docs names is there, with its function where one is named."""

import re

import pytest

from app.config import CHECKOUT

NAME = re.compile(r"`(tests/[\w/.-]+)(?:::(\w+))?`")
PAGES = sorted((CHECKOUT / "docs").rglob("*.md"))


def missing(text: str) -> list[str]:
    """The names that lead nowhere."""
    wrong = []
    for path, test in NAME.findall(text):
        target = CHECKOUT / path
        if not target.exists():
            wrong.append(path)
        elif test and not re.search(rf"^\s*(async )?def {test}\(", target.read_text(), re.MULTILINE):
            wrong.append(f"{path}::{test}")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_is_there(page: object) -> None:
    assert missing(CHECKOUT.joinpath(str(page)).read_text()) == []


def test_names_that_lead_nowhere_are_noticed() -> None:
    here = "tests/docs/test_named_tests.py"
    text = f"`{here}` `{here}::test_names_that_lead_nowhere_are_noticed` `tests/none.py` `{here}::test_of_nothing`"
    assert missing(text) == ["tests/none.py", f"{here}::test_of_nothing"]
    assert sum(len(NAME.findall(page.read_text())) for page in PAGES) > 100
