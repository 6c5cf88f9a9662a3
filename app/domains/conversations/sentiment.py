"""How one turn feels: valence in [-1, 1], emotions, and whether it asks, from the words found in it.

The same rules for every language: negation turns the next feeling word round, intensifiers strengthen, "but"
shifts the weight to what follows. docs/scoring.md has a worked example.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

from app.domains.conversations.language import Language
from app.domains.conversations.lexicon import Emotion, Hit, Role, lexicon_for
from app.domains.conversations.questions import is_question
from app.domains.conversations.tokens import COMMA, Sentence

NEGATED: Final = -0.7
BOOSTED: Final = 1.3
DAMPENED: Final = 0.6
BEFORE_CONTRAST: Final = 0.5
AFTER_CONTRAST: Final = 1.5
EXCLAIMED: Final = 0.1  # more per exclamation mark, three at most
ASKED: Final = 0.5  # "are you happy?" says little about the speaker
HALF_WAY: Final = 15.0  # as in VADER: the sum of valences x becomes x / sqrt(x * x + 15)
_NEGATION_REACH: Final = 3  # words that may stand between "not" and what it negates
_BOOST_REACH: Final = 1


@dataclass(frozen=True, slots=True)
class TurnFeeling:
    """`valence` in [-1, 1]; `emotions`: weight of each emotion's words; `asks`: a sentence is a question."""

    valence: float = 0.0
    emotions: Mapping[Emotion, float] = field(default_factory=dict)
    asks: bool = False


def feel(sentences: Sequence[Sentence], language: Language) -> TurnFeeling:
    """Read one turn in the given language. Deterministic, linear, never raises."""
    lexicon = lexicon_for(language)
    emotions: defaultdict[Emotion, float] = defaultdict(float)
    total = 0.0
    asks = False
    for sentence in sentences:
        words = lexicon.respell(sentence.words)
        question = is_question(sentence, words, language)
        asks = asks or question
        factor = (ASKED if question else 1.0) * (1.0 + EXCLAIMED * min(3, sentence.ending.count("!")))
        for valence, emotion in _valences(words, lexicon.find(words), question=question):
            total += factor * valence
            if emotion is not None:
                emotions[emotion] += factor * abs(valence)
    return TurnFeeling(total / sqrt(total * total + HALF_WAY), emotions, asks)


def _valences(
    words: Sequence[str], hits: Sequence[Hit], *, question: bool
) -> Iterator[tuple[float, Emotion | None]]:
    """Each feeling word's valence in its sentence, and the emotion that it shows."""
    contrast = next((hit.start for hit in hits if hit.start and Role.CONTRAST in hit.entry.role), None)
    for index, hit in enumerate(hits):
        if not hit.entry.valence or _only_modifies(words, hits, index):
            continue
        negations = _negations(words, hits, index, question=question)
        valence = hit.entry.valence * NEGATED**negations * _strength(words, hits, index)
        if contrast is not None:
            valence *= BEFORE_CONTRAST if hit.start < contrast else AFTER_CONTRAST
        yield valence, _shown(hit.entry.emotion, negated=negations % 2 == 1)


def _shown(emotion: Emotion | None, *, negated: bool) -> Emotion | None:
    """ "Not happy" is sad; other emotions that are negated show nothing in particular."""
    if not negated:
        return emotion
    return Emotion.SADNESS if emotion is Emotion.JOY else None


def _only_modifies(words: Sequence[str], hits: Sequence[Hit], index: int) -> bool:
    """A feeling word that here only strengthens its neighbour: "pretty good", "vui kinh khủng"."""
    role = hits[index].entry.role
    before = hits[index - 1] if index else None
    after = hits[index + 1] if index + 1 < len(hits) else None
    if Role.BOOST_BEFORE in role and after is not None and after.entry.valence:
        return _apart(words, hits[index], after) == 0
    if Role.BOOST_AFTER in role and before is not None and before.entry.valence:
        return _apart(words, before, hits[index]) == 0
    return False


def _apart(words: Sequence[str], left: Hit, right: Hit) -> int:
    """Words between two hits; a comma between them puts them out of each other's reach."""
    if COMMA in words[left.end : right.start]:
        return len(words)
    return right.start - left.end


def _negations(words: Sequence[str], hits: Sequence[Hit], index: int, *, question: bool) -> int:
    count = 0
    for other in reversed(hits[max(0, index - 4) : index]):
        if _apart(words, other, hits[index]) > _NEGATION_REACH:
            break
        if Role.NEGATE in other.entry.role:
            count += 1
        elif Role.CONTRAST in other.entry.role or (other.entry.valence and not _is_modifier(other)):
            break
    after = hits[index + 1] if index + 1 < len(hits) else None
    if not count and after is not None and Role.NEGATE_AFTER in after.entry.role and not question:
        count += _apart(words, hits[index], after) == 0  # "có vui đâu"; in "không vui đâu" it only underlines
    return min(count, 2)


def _is_modifier(hit: Hit) -> bool:
    return hit.entry.role is not Role.NONE


def _strength(words: Sequence[str], hits: Sequence[Hit], index: int) -> float:
    strength = 1.0
    for other in hits[max(0, index - 2) : index]:
        if _apart(words, other, hits[index]) <= _BOOST_REACH:
            if Role.BOOST_BEFORE in other.entry.role:
                strength *= BOOSTED
            elif Role.DAMPEN_BEFORE in other.entry.role:
                strength *= DAMPENED
    for other in hits[index + 1 : index + 2]:
        if Role.BOOST_AFTER in other.entry.role and _apart(words, hits[index], other) <= _BOOST_REACH:
            strength *= BOOSTED
    return strength
