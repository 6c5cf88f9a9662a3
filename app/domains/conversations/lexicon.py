"""The feeling words of each language as one searchable table per `Language`: valence, emotion, grammar role.

Sources and licences: docs/scoring.md. What the words do to each other is `sentiment`'s business.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Flag, StrEnum, auto
from functools import cache
from importlib import resources
from typing import Any, Final, TypeAlias

from app.domains.conversations.language import PLAIN_WORDS, RULES, Language, is_vietnamese_syllable
from app.domains.conversations.tokens import read_table, spell, spell_phrase, strip_marks


class Emotion(StrEnum):
    JOY = "joy"
    LOVE = "love"
    CURIOUS = "curious"
    SADNESS = "sadness"
    FEAR = "fear"
    ANGER = "anger"
    HOSTILITY = "hostility"
    """Against the one who listens: insults, "go away". Anger is about anything else."""
    BOREDOM = "boredom"


class Role(Flag):
    """What a word does to its neighbours. A word may have several, and a valence besides ("kinh khủng")."""

    NONE = 0
    NEGATE = auto()
    NEGATE_AFTER = auto()
    BOOST_BEFORE = auto()
    BOOST_AFTER = auto()
    DAMPEN_BEFORE = auto()
    CONTRAST = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """Valence runs from -4 (very bad) to 4 (very good), the scale of VADER's ten raters."""

    valence: float = 0.0
    emotion: Emotion | None = None
    role: Role = Role.NONE


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry found at words[start:end] of a sentence."""

    start: int
    end: int
    entry: Entry


Words: TypeAlias = tuple[str, ...]
Phrases: TypeAlias = dict[Words, Entry]
_RUN_OF_LETTERS: Final = re.compile(r"(.)\1{2,}")
_ALIASES: Final = {spell(word): spell_phrase(text) for word, text in RULES["vietnamese"]["aliases"].items()}
_PLAIN_ALIASES: Final = {word: tuple(map(strip_marks, text)) for word, text in _ALIASES.items()}


class Lexicon:
    """Longest-phrase search over one language's entries. Immutable; safe to share between threads."""

    def __init__(self, phrases: Mapping[Words, Entry], aliases: Mapping[str, Words]) -> None:
        self._by_first: dict[str, list[tuple[Words, Entry]]] = {}
        for phrase, entry in phrases.items():
            self._by_first.setdefault(phrase[0], []).append((phrase, entry))
        for candidates in self._by_first.values():
            candidates.sort(key=lambda candidate: (-len(candidate[0]), candidate[0]))
        self._aliases = aliases

    def respell(self, words: Iterable[str]) -> Words:
        """Chat spellings written out ("ko" is "không") and drawn-out words shortened ("vuiiii" is "vui")."""
        respelled: list[str] = []
        for word in words:
            alias = self._aliases.get(word)
            if alias is not None:
                respelled.extend(alias)
            elif word in self._by_first or not _RUN_OF_LETTERS.search(word):
                respelled.append(word)
            else:
                respelled.append(self._shorten(word))
        return tuple(respelled)

    def _shorten(self, word: str) -> str:
        twice, once = _RUN_OF_LETTERS.sub(r"\1\1", word), _RUN_OF_LETTERS.sub(r"\1", word)
        return twice if twice in self._by_first else once

    def find(self, words: Sequence[str]) -> list[Hit]:
        """The entries in a sentence, left to right; they do not overlap and the longest wins."""
        hits: list[Hit] = []
        start = 0
        while start < len(words):
            found = self._longest(words, start)
            if found is not None:
                hits.append(found)
            start = found.end if found is not None else start + 1
        return hits

    def _longest(self, words: Sequence[str], start: int) -> Hit | None:
        for phrase, entry in self._by_first.get(words[start], ()):
            end = start + len(phrase)
            if tuple(words[start:end]) == phrase:
                return Hit(start, end, entry)
        return None


@cache
def lexicon_for(language: Language) -> Lexicon:
    """The table to read a turn of this language with. Other languages: emoji and emoticons only."""
    if language is Language.OTHER:
        return Lexicon(_symbols(), {})
    if language in (Language.ENGLISH, Language.UNKNOWN):
        return Lexicon({**_english(), **_symbols()}, {})
    plain_only = language is Language.VIETNAMESE_PLAIN
    vietnamese = dict(_vietnamese_plain(certain=not plain_only))
    if not plain_only:
        vietnamese.update(_vietnamese())
    # English inside Vietnamese counts unless it could be Vietnamese: "no" is also "full", "ban" is "friend".
    could_be = PLAIN_WORDS.__contains__ if language is Language.MIXED else is_vietnamese_syllable
    english = {phrase: entry for phrase, entry in _english().items() if not could_be(phrase[0])}
    return Lexicon({**english, **vietnamese, **_symbols()}, _PLAIN_ALIASES if plain_only else _ALIASES)


def _emotion(name: str) -> Emotion | None:
    return Emotion(name) if name else None


def _symbols() -> Phrases:
    return {
        (symbol.lower(),): Entry(float(valence), _emotion(emotion))
        for symbol, valence, emotion in read_table("symbols.tsv")
    }


@cache
def _english() -> Phrases:
    phrases: Phrases = {(word,): Entry(valence) for word, valence in _vader_words()}
    for phrase, *rest in read_table("english_words.tsv"):
        emotion, valence = (*rest, "", "")[:2]
        words = spell_phrase(phrase)
        known = phrases.get(words, Entry())
        phrases[words] = Entry(float(valence) if valence else known.valence, _emotion(emotion))
    return _with_roles(phrases, RULES["english"])


def _vader_words() -> Iterator[tuple[str, float]]:
    """Words and valences of the VADER lexicon; its typed faces are not read (see symbols.tsv)."""
    text = (resources.files("vaderSentiment") / "vader_lexicon.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        word, valence = line.split("\t")[:2]
        if word.replace("'", "").isalpha() and word.islower():
            yield word, float(valence)


@cache
def _vietnamese() -> Phrases:
    phrases = {words: entry for words, entry, _plain in _vietnamese_rows()}
    return _with_roles(phrases, RULES["vietnamese"])


@cache
def _vietnamese_plain(*, certain: bool) -> Phrases:
    """Entries as typed without diacritics. `certain`: without those that had none to lose."""
    phrases: Phrases = {}
    for words, entry, plain in _vietnamese_rows():
        stripped = tuple(map(strip_marks, words))
        if plain and not (certain and stripped == words):
            phrases.setdefault(stripped, entry)
    rules = {
        role: [" ".join(map(strip_marks, spell_phrase(text))) for text in texts]
        for role, texts in RULES["vietnamese"].items()
        if role in _ROLES and role != "negate_after"  # "đâu" without its marks is too many words
    }
    return phrases if certain else _with_roles(phrases, rules)


def _vietnamese_rows() -> Iterator[tuple[Words, Entry, bool]]:
    for phrase, valence, *rest in read_table("vietnamese_sentiment.tsv"):
        emotion, plain = (*rest, "", "")[:2]
        words = spell_phrase(phrase)
        harmless = len(words) > 1 or phrase.isascii()
        yield words, Entry(float(valence), _emotion(emotion)), plain == "yes" or (plain != "no" and harmless)


_ROLES: Final = {
    "negate": Role.NEGATE,
    "negate_after": Role.NEGATE_AFTER,
    "boost_before": Role.BOOST_BEFORE,
    "boost_after": Role.BOOST_AFTER,
    "dampen_before": Role.DAMPEN_BEFORE,
    "contrast": Role.CONTRAST,
}


def _with_roles(phrases: Phrases, rules: Mapping[str, Any]) -> Phrases:
    for name, role in _ROLES.items():
        for text in rules.get(name, ()):
            words = spell_phrase(text)
            entry = phrases.get(words, Entry())
            phrases[words] = replace(entry, role=entry.role | role)
    return phrases
