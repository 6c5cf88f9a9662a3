"""Keyword extraction in English and Vietnamese: the method's own example, words of several syllables, odd input."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domains.customers.keywords import LONGEST, detect_language, extract_keywords

RAKE = """Compatibility of systems of linear constraints over the set of natural numbers. Criteria of compatibility of a
system of linear Diophantine equations, strict inequations, and nonstrict inequations are considered. Upper bounds
for components of a minimal set of solutions and algorithms of construction of minimal generating sets of solutions
for all types of systems are given."""
VIETNAMESE = (
    "Hệ quản trị cơ sở dữ liệu PostgreSQL là một phần mềm mã nguồn mở. Cơ sở dữ liệu lưu trữ hàng đợi công việc trong"
    " giao dịch. Hàng đợi công việc xử lý các tác vụ, và phần mềm mã nguồn mở rất phổ biến."
)


def phrases(text: str, **options: object) -> list[str]:
    """The keywords' texts."""
    return [one.phrase for one in extract_keywords(text, **options)[1]]  # type: ignore[arg-type]


def test_the_example_of_the_papers_authors() -> None:
    found = phrases(RAKE)
    assert set(found[:3]) == {"linear diophantine equations", "minimal generating sets", "linear constraints"}
    assert found.index("minimal set") < found.index("compatibility")


def test_vietnamese_words_keep_their_syllables_together() -> None:
    language, found = extract_keywords(VIETNAMESE)
    assert language == "vi"
    assert {"phần mềm mã nguồn mở", "cơ sở dữ liệu", "hàng đợi công việc"} <= {
        one.phrase for one in found[:5]
    }
    assert next(one.count for one in found if one.phrase == "cơ sở dữ liệu") == 2


def test_decomposed_text_gives_the_same() -> None:
    assert phrases(unicodedata.normalize("NFD", VIETNAMESE)) == phrases(VIETNAMESE)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("xin chào các bạn, hôm nay trời đẹp", "vi"),
        ("good morning", "en"),
        ("", "en"),
        ("cafe với bạn", "vi"),
        ("café", "en"),
    ],
)
def test_the_language_is_told_by_its_letters(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_most_bounds_the_answer_and_stop_words_are_none() -> None:
    assert len(phrases(RAKE, most=2)) == 2
    assert phrases("the of and with 12 34 a b") == []


@given(st.text(max_size=300))
def test_any_text_has_an_answer_of_bounded_phrases(text: str) -> None:
    language, found = extract_keywords(text)
    assert all(1 <= len(one.phrase.split()) <= LONGEST[language] and one.score > 0 for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
