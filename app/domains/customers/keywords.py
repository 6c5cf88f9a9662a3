"""Keywords of a text in English or Vietnamese: RAKE, adapted to a language whose words are several syllables. Pure.

Rose, Engel, Cramer, Cowley: Automatic keyword extraction from individual documents (2010). docs/customers.md tells
what differs.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
from typing import Final

from app.domains.customers.models import Language

DATA: Final = Path(__file__).parent / "data"
LONGEST: Final[dict[Language, int]] = {"en": 4, "vi": 5}
"""Words (syllables) of a candidate: longer runs are cut."""
_TOKEN: Final = re.compile(r"(?P<word>[^\W_]+(?:['’-][^\W_]+)*)|(?P<border>[^\w\s'’-])")
_VIETNAMESE: Final = re.compile("[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")
Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keyword:
    """A phrase as it stands in the text (lower case), its score, and how often it occurs."""

    phrase: str
    score: float
    count: int


def extract_keywords(
    text: str, *, language: Language | None = None, most: int = 10
) -> tuple[Language, list[Keyword]]:
    """The language (told, or detected) and at most `most` keywords, the best first. Linear in the text's size.

    A candidate is a run of words between stop words, punctuation and line ends. A word's score is its degree (the
    lengths of the candidates it is in, summed) over its frequency; a candidate's is the sum of its words' scores times
    1 + ln(how often it occurs).
    """
    composed = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    found: Language = language or detect_language(composed)
    candidates = _candidates(composed, found)
    frequency: Counter[str] = Counter()
    degree: defaultdict[str, int] = defaultdict(int)
    for candidate in candidates:
        for word in candidate:
            frequency[word] += 1
            degree[word] += len(candidate)
    counts = Counter(candidates)
    scored = [
        Keyword(
            " ".join(phrase),
            round(sum(degree[word] / frequency[word] for word in phrase) * (1 + log(count)), 3),
            count,
        )
        for phrase, count in counts.items()
    ]
    scored.sort(key=lambda one: (-one.score, -one.count, one.phrase))
    return found, scored[:most]


def detect_language(text: str) -> Language:
    """Vietnamese when at least one letter in fifty is one that only Vietnamese has; else English."""
    letters = sum(character.isalpha() for character in text)
    return "vi" if letters and len(_VIETNAMESE.findall(text.lower())) * 50 >= letters else "en"


def _candidates(text: str, language: Language) -> list[Phrase]:
    runs = [run for line in text.splitlines() for run in _runs(line, language)]
    pairs = Counter(pair for run in runs for pair in zip(run, run[1:], strict=False))
    longest = LONGEST[language]
    return [part for run in runs for part in _cut(run, pairs, longest)]


def _runs(line: str, language: Language) -> Iterator[Phrase]:
    """Runs of content words: between stop words, numbers alone and punctuation."""
    stops, deepest = _stopwords(language)
    tokens = ["" if token.lastgroup == "border" else token.group() for token in _TOKEN.finditer(line)]
    run: list[str] = []
    at = 0
    while at < len(tokens):
        skipped = next((size for size in range(deepest, 0, -1) if tuple(tokens[at : at + size]) in stops), 0)
        word = tokens[at]
        if not skipped and _says_something(word, language):
            run.append(word)
        elif run:
            yield tuple(run)
            run = []
        at += max(skipped, 1)
    if run:
        yield tuple(run)


def _says_something(word: str, language: Language) -> bool:
    least = 2 if language == "vi" else 3
    return len(word) >= least and not word.isdecimal()


def _cut(run: Phrase, pairs: Counter[tuple[str, str]], longest: int) -> Iterator[Phrase]:
    """A run that is too long falls apart into what keeps together elsewhere in the text, and what stands between."""
    if len(run) <= longest:
        yield run
        return
    units: list[list[str]] = [[run[0]]]
    for before, word in zip(run, run[1:], strict=False):
        tight = pairs[before, word] >= 2 and len(units[-1]) < longest
        if tight:
            units[-1].append(word)
        else:
            units.append([word])
    yield from _joined(units, longest)


def _joined(units: Sequence[list[str]], longest: int) -> Iterator[Phrase]:
    """Single words between the units belong together as far as the length allows."""
    loose: list[str] = []
    for unit in units:
        if loose and (len(unit) > 1 or len(loose) == longest):
            yield tuple(loose)
            loose = []
        if len(unit) > 1:
            yield tuple(unit)
        else:
            loose += unit
    if loose:
        yield tuple(loose)


@cache
def _stopwords(language: Language) -> tuple[frozenset[Phrase], int]:
    """The stop words as tuples of syllables, and how long the longest is."""
    lines = (DATA / f"stopwords_{language}.txt").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if not line.startswith("#") for word in line.split()]
    phrases = frozenset(tuple(unicodedata.normalize("NFC", word).split("_")) for word in words)
    return phrases, max(len(phrase) for phrase in phrases)


def as_json(keywords: Sequence[Keyword]) -> list[dict[str, object]]:
    """For a job's result."""
    return [{"phrase": one.phrase, "score": one.score, "count": one.count} for one in keywords]
