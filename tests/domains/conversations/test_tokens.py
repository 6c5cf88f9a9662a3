"""Text into sentences and words: Unicode forms, tone spellings, chat spellings, and hostile input."""

import unicodedata
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domains.conversations.language import Language
from app.domains.conversations.lexicon import lexicon_for
from app.domains.conversations.tokens import COMMA, compose, read_sentences, spell, spell_phrase, strip_marks


def words(text: str) -> list[str]:
    return [word for sentence in read_sentences(text) for word in sentence.words]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_unicode_form_does_not_matter(form: Literal["NFC", "NFD"]) -> None:
    text = "Hôm nay trời đẹp tuyệt vời"
    assert words(unicodedata.normalize(form, text)) == words(text)


def test_a_tone_typed_before_the_shape_is_the_same_letter() -> None:
    assert compose("e\u0301\u0302") == "ế"
    assert compose("e\u0302\u0301") == "ế"


@pytest.mark.parametrize(("old", "new"), [("hoà", "hòa"), ("khoẻ", "khỏe"), ("thuý", "thúy"), ("oà", "òa")])
def test_old_and_new_tone_placement_are_one_spelling(old: str, new: str) -> None:
    assert spell(old) == spell(new)
    assert spell(old) != spell(strip_marks(old))


@pytest.mark.parametrize(
    ("word", "plain"), [("không", "khong"), ("đẹp", "dep"), ("ước", "uoc"), ("cool", "cool")]
)
def test_marks_come_off(word: str, plain: str) -> None:
    assert strip_marks(word) == plain
    assert strip_marks(spell(word)) == plain


def test_sentences_end_at_punctuation_and_keep_it() -> None:
    found = read_sentences("Wait! What?! Yes, mostly… ok\nfine")
    assert [(" ".join(sentence.words), sentence.ending) for sentence in found] == [
        ("wait", "!"),
        ("what", "?!"),
        (f"yes {COMMA} mostly", "…"),
        ("ok", "\n"),
        ("fine", ""),
    ]
    assert [sentence.marked_as_question for sentence in found] == [False, True, False, False, False]


def test_addresses_are_no_words_and_ask_nothing() -> None:
    assert words("see https://example.com/?q=sad&x=1 now") == ["see", "now"]


def test_emoji_and_emoticons_are_words() -> None:
    assert words("nice 😂❤️:) xD") == ["nice", "😂", "❤", ":)", "xd"]
    assert words("extra XDR 1:30") == ["extra", "xdr", COMMA]


def test_typographic_apostrophes() -> None:
    assert words("I don’t") == ["i", "don't"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("vuiiii", "vui"), ("quáaaa", "quá"), ("ko", "không"), ("thik", "thích"), ("ntn", "như thế nào")],
)
def test_vietnamese_chat_spellings(written: str, meant: str) -> None:
    assert lexicon_for(Language.VIETNAMESE).respell([spell(written)]) == spell_phrase(meant)


@pytest.mark.parametrize(("written", "meant"), [("goooood", "good"), ("sooo", "so"), ("yayyyy", "yay")])
def test_drawn_out_english_words(written: str, meant: str) -> None:
    assert lexicon_for(Language.ENGLISH).respell([written]) == (meant,)


@settings(deadline=None)
@given(st.text(st.characters(codec=None), max_size=400))
def test_any_text_is_read(text: str) -> None:
    for sentence in read_sentences(text):
        assert sentence.words
        assert all(word == word.strip() and word for word in sentence.words)


@settings(deadline=None)
@given(st.text("aăâeêioôơuưyđbcdghklmnpqrstvx \u0300\u0301\u0303\u0309\u0323\u0302\u0306\u031b", max_size=80))
def test_spelling_is_settled_after_once(text: str) -> None:
    for word in words(text):
        assert spell(word) == word
        assert strip_marks(strip_marks(word)) == strip_marks(word)
