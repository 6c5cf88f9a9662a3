"""Which language a turn is in, as far as scoring needs it: English, Vietnamese (diacritics or not), both, or
another one. Word lists and the shape of Vietnamese syllables; no model, and no guess without evidence.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

from app.domains.conversations.tokens import COMMA, DATA, TONES, Sentence, spell, strip_marks


class Language(StrEnum):
    ENGLISH = "en"
    VIETNAMESE = "vi"
    VIETNAMESE_PLAIN = "vi-plain"
    """Vietnamese typed without diacritics."""
    MIXED = "en+vi"
    OTHER = "other"
    UNKNOWN = "unknown"
    """No evidence: no words, or only words that every language could have."""


RULES: Final[dict[str, Any]] = json.loads((DATA / "rules.json").read_text(encoding="utf-8"))


def _spelled(words: Iterable[str]) -> frozenset[str]:
    return frozenset(spell(word) for word in words)


_ENGLISH: Final = _spelled(RULES["english"]["function_words"])
_VIETNAMESE: Final = frozenset(
    word for word in _spelled(RULES["vietnamese"]["function_words"]) if not word.isascii()
)
PLAIN_WORDS: Final = _spelled(RULES["vietnamese"]["plain_function_words"])
_OTHERS: Final = {name: _spelled(words) for name, words in RULES["other_function_words"].items()}

_ONSET: Final = "(?:ngh|ng|nh|kh|gh|gi|ph|th|tr|ch|qu|[bcdghklmnpqrstvx])?"
_RHYME: Final = (
    "(?:a(?:ch|ng|nh|[cimnoptuy])?|e(?:ch|ng|nh|[cmnoptu])?|i(?:ch|nh|[amnptu])?|ie(?:ng|[cmnptu])|"
    "o(?:ng|[acimnpt])?|oa(?:ch|ng|nh|[cimnoty])|oe[not]?|oo(?:ng|c)|u(?:ng|[acimnpty])?|ua(?:ng|[nty])|"
    "ue(?:ch|nh)?|uo(?:ng|[cimntpu])?|uu|uy(?:ch|nh|[atnu])?|uye[nt]|y|ye(?:ng|[mntu]))"
)
_SYLLABLE: Final = re.compile(_ONSET + _RHYME)
_DRAWN_OUT: Final = re.compile(r"(.)\1{2,}")
_FOREIGN_LETTERS: Final = frozenset("ñßçøåöüäëïœæłśźżčšžřğışţőű¿¡")
_VIETNAMESE_LETTERS: Final = frozenset("đăơư\u0309\u0323")  # letters, and the tones hook above and dot below
_SHAPED: Final = frozenset("âêô")


def is_vietnamese_syllable(word: str) -> bool:
    """Could `word`, its diacritics taken off, be one Vietnamese syllable? (so can many English words)"""
    return _SYLLABLE.fullmatch(strip_marks(word)) is not None


def words_of(sentences: Iterable[Sentence]) -> list[str]:
    """The words of a text that have letters, in order; drawn-out words ("vuiiii") shortened."""
    return [
        _DRAWN_OUT.sub(r"\1", word)
        for sentence in sentences
        for word in sentence.words
        if word != COMMA and word[0].isalpha()
    ]


def detect(words: Sequence[str]) -> Language:
    """The language of one turn or of a whole conversation, from its words (as `tokens` spells them)."""
    if not words:
        return Language.UNKNOWN
    counts = Counter(words)
    if _share(counts, _is_foreign_script) > 0.5:
        return Language.OTHER
    english = _hits(counts, _ENGLISH)
    marked = sum(count for word, count in counts.items() if _is_marked(word))
    vietnamese = marked + _hits(counts, _VIETNAMESE)
    plain = _plain_evidence(counts)
    other = max(_hits(counts, words) for words in _OTHERS.values())
    other += sum(count for word, count in counts.items() if not _FOREIGN_LETTERS.isdisjoint(word))
    return _decide(english, vietnamese, plain, other)


def _decide(english: int, vietnamese: int, plain: int, other: int) -> Language:
    if not english and not vietnamese and not plain and not other:
        return Language.UNKNOWN
    if other > max(english, vietnamese, plain):
        return Language.OTHER
    if vietnamese and vietnamese >= english:
        return Language.MIXED if 3 * english >= vietnamese else Language.VIETNAMESE
    if plain > english:
        return Language.VIETNAMESE_PLAIN
    return Language.MIXED if vietnamese else Language.ENGLISH


def _hits(counts: Counter[str], words: frozenset[str]) -> int:
    if len(counts) < len(words):
        return sum(count for word, count in counts.items() if word in words)
    return sum(counts[word] for word in words if word in counts)


def _share(counts: Counter[str], matches: Callable[[str], bool]) -> float:
    return sum(count for word, count in counts.items() if matches(word)) / counts.total()


def _plain_evidence(counts: Counter[str]) -> int:
    """Words typed without diacritics: two different ones at least, in a text that looks Vietnamese throughout."""
    found = PLAIN_WORDS.intersection(counts)
    if len(found) < 2 or _share(counts, is_vietnamese_syllable) < 0.75:
        return 0
    return sum(counts[word] for word in found)


def _is_marked(word: str) -> bool:
    """Letters or tones that only Vietnamese has, in a word that can be a Vietnamese syllable."""
    return not word.isascii() and is_vietnamese_syllable(word) and _has_vietnamese_mark(word)


def _has_vietnamese_mark(word: str) -> bool:
    shaped_and_toned = not _SHAPED.isdisjoint(word) and word[-1] in TONES
    return shaped_and_toned or not _VIETNAMESE_LETTERS.isdisjoint(word)


def _is_foreign_script(word: str) -> bool:
    letter = word[0]
    return not letter.isascii() and not "\u00c0" <= letter <= "\u024f" and not "\u1e00" <= letter <= "\u1eff"
