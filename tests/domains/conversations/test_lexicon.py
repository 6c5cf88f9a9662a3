"""The data files: shape, ranges, no doubles, and that their making promises hold."""

import unicodedata
from collections import Counter

import pytest

from app.domains.conversations.language import Language
from app.domains.conversations.lexicon import Emotion, Role, lexicon_for
from app.domains.conversations.tokens import read_table, spell_phrase


@pytest.mark.parametrize(
    ("table", "valence", "emotion"),
    [("vietnamese_sentiment.tsv", 1, 2), ("english_words.tsv", 2, 1), ("symbols.tsv", 1, 2)],
)
def test_rows_are_well_formed(table: str, valence: int, emotion: int) -> None:
    rows = read_table(table)
    assert max(Counter(row[0] for row in rows).values()) == 1
    for row in rows:
        assert row[0] == unicodedata.normalize("NFC", row[0]).strip()
        if len(row) > valence and row[valence]:
            assert -4 <= float(row[valence]) <= 4, row
        if len(row) > emotion and row[emotion]:
            assert row[emotion] in list(Emotion), row


def test_the_vietnamese_lexicon_is_a_few_hundred_phrases() -> None:
    assert len(read_table("vietnamese_sentiment.tsv")) > 600


def test_good_feelings_are_positive_and_bad_ones_negative() -> None:
    bad = {Emotion.SADNESS, Emotion.FEAR, Emotion.ANGER, Emotion.HOSTILITY, Emotion.BOREDOM}
    for phrase, valence, *rest in read_table("vietnamese_sentiment.tsv"):
        if rest and rest[0]:
            assert (float(valence) < 0) == (Emotion(rest[0]) in bad), phrase


@pytest.mark.parametrize("phrase", [row[0] for row in read_table("vietnamese_sentiment.tsv")][::40])
def test_a_phrase_is_found_whole(phrase: str) -> None:
    words = spell_phrase(phrase)
    hits = lexicon_for(Language.VIETNAMESE).find(words)
    assert [(hit.start, hit.end) for hit in hits] == [(0, len(words))]


def test_the_longest_phrase_wins() -> None:
    hits = lexicon_for(Language.VIETNAMESE).find(spell_phrase("con buồn cười quá"))
    assert [hit.entry.emotion for hit in hits if hit.entry.valence] == [Emotion.JOY]


def test_english_valences_come_from_vader_unless_corrected() -> None:
    english = lexicon_for(Language.ENGLISH)
    assert english.find(["wonderful"])[0].entry.valence == 2.7  # as VADER has it
    assert english.find(["no"])[0].entry.valence == 0  # VADER: -1.2; here it only negates
    assert Role.NEGATE in english.find(["no"])[0].entry.role


def test_ambiguous_words_without_diacritics_do_not_count() -> None:
    plain = lexicon_for(Language.VIETNAMESE_PLAIN)
    assert not [hit for hit in plain.find(["ngu"]) if hit.entry.valence]  # "ngủ" (sleep) or "ngu" (stupid)
    assert not [hit for hit in plain.find(["yeu"]) if hit.entry.valence]  # "yêu" (love) or "yếu" (weak)
    assert plain.find(["tuyet", "voi"])[0].entry.valence > 3
