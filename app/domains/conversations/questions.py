"""Does a sentence ask something? English and Vietnamese also without a question mark, others by the mark.

Rules of thumb over closed word lists (data/rules.json), not a parser.
"""

from collections.abc import Sequence
from typing import Any, Final

from app.domains.conversations.language import RULES, Language
from app.domains.conversations.tokens import COMMA, Sentence, spell_phrase, strip_marks

_VIETNAMESE_LANGUAGES: Final = (Language.VIETNAMESE, Language.VIETNAMESE_PLAIN, Language.MIXED)


def is_question(sentence: Sentence, words: Sequence[str], language: Language) -> bool:
    """`words` are the sentence's words as the lexicon respelled them."""
    if sentence.marked_as_question:
        return True
    spoken = [word for word in words if word == COMMA or word[0].isalpha()]
    if language in (Language.ENGLISH, Language.MIXED, Language.UNKNOWN) and _ENGLISH.asks(spoken):
        return True
    if language not in _VIETNAMESE_LANGUAGES:
        return False
    return (_PLAIN if language is Language.VIETNAMESE_PLAIN else _VIETNAMESE).asks(spoken)


class _English:
    def __init__(self, rules: dict[str, Any]) -> None:
        self._lead_in = frozenset(rules["lead_in"])
        self._auxiliaries = frozenset(rules["auxiliaries"])
        self._subjects = frozenset(rules["subjects"])
        self._wh_any = frozenset(rules["wh_any"])
        self._wh_before_auxiliary = frozenset(rules["wh_before_auxiliary"])
        self._how_measures = frozenset(rules["how_measures"])
        self._what_direct = frozenset(rules["what_direct"])
        self._tags = [tuple(tag.split()) for tag in rules["tags"]]
        self._requests = [tuple(request.split()) for request in rules["requests"]]

    def asks(self, words: Sequence[str]) -> bool:
        start = 0
        while start < len(words) and (words[start] in self._lead_in or words[start] == COMMA):
            start += 1
        opening = [word for word in words[start : start + 8] if word != COMMA]
        return self._opens_question(opening) or self._ends_in_tag(words)

    def _opens_question(self, words: Sequence[str]) -> bool:
        if not words:
            return False
        first, rest = words[0], words[1:]
        if any(tuple(words[: len(request)]) == request for request in self._requests):
            return True
        if first in self._auxiliaries:
            wish = first in ("have", "has", "did") and rest[:1] and rest[0] in ("a", "an", "the", "it")
            return bool(rest) and rest[0] in self._subjects and not wish  # "have a nice day"
        if first in self._wh_any:
            return not rest or rest[0] not in self._subjects or first.endswith(("'s", "s", "'re"))
        if first in self._wh_before_auxiliary:
            return self._asks_with(first, rest)
        return False

    def _asks_with(self, first: str, rest: Sequence[str]) -> bool:
        if not rest:
            return first != "which"
        if first == "how" and rest[0] in self._how_measures:
            return True
        if first == "what" and rest[0] in self._what_direct:
            return True
        if first in ("when", "where", "how") or (first == "which" and rest[0] in self._auxiliaries):
            return rest[0] in self._auxiliaries and len(rest) > 1 and rest[1] in self._subjects
        return rest[0] not in self._subjects and not self._auxiliaries.isdisjoint(rest)

    def _ends_in_tag(self, words: Sequence[str]) -> bool:
        """After a comma: "nice, isn't it", "you like it, right"."""
        return any(
            len(words) > len(tag) + 1 and tuple(words[-len(tag) :]) == tag and words[-len(tag) - 1] == COMMA
            for tag in self._tags
        )


class _Vietnamese:
    def __init__(self, rules: dict[str, Any], *, plain: bool) -> None:
        def spelled(text: str) -> tuple[str, ...]:
            words = spell_phrase(text)
            return tuple(map(strip_marks, words)) if plain else words

        def single(name: str) -> frozenset[str]:
            return frozenset(spelled(text)[0] for text in rules[name])

        self._trailing = single("trailing")
        self._final_particles = single("final_particles")
        self._final_negations = single("final_negations")
        self._not_before_final = frozenset(spelled(text)[-1] for text in rules["not_before_final"])
        self._interrogatives = {spelled(text) for text in rules["interrogatives"]}
        self._neutral_before = single("neutral_before")
        self._neutral_after = single("neutral_after")
        self._also = frozenset(spelled("cũng"))
        self._ambiguous_plain = {("ai",), ("may",), ("nao",), ("sao",)} if plain else set()
        self._longest = max(map(len, self._interrogatives))

    def asks(self, words: Sequence[str]) -> bool:
        clause = _last_clause(words)
        return self._ends_in_particle(clause) or self._has_interrogative(words)

    def _ends_in_particle(self, words: Sequence[str]) -> bool:
        """ "... không", "... chưa", "... hả", with polite words after them or without."""
        end = len(words)
        while end > 1 and words[end - 1] in self._trailing and words[end - 1] not in self._final_particles:
            end -= 1
        if end < 2:
            return False
        last, before = words[end - 1], words[end - 2]
        if last in self._final_particles:
            return True
        return last in self._final_negations and before not in self._not_before_final

    def _has_interrogative(self, words: Sequence[str]) -> bool:
        start = 0
        while start < len(words):
            length = self._interrogative_at(words, start)
            if length and self._asks_at(words, start, start + length):
                return True
            start += length or 1
        return False

    def _interrogative_at(self, words: Sequence[str], start: int) -> int:
        for length in range(self._longest, 0, -1):
            if tuple(words[start : start + length]) in self._interrogatives:
                return length
        return 0

    def _asks_at(self, words: Sequence[str], start: int, end: int) -> bool:
        """Not "không có gì", "ai cũng", "gì đó"; an ambiguous word without diacritics only at the end."""
        if not self._neutral_after.isdisjoint(words[end : end + 1]):
            return False
        if not self._also.isdisjoint(words[end : end + 4]):
            return False
        if not self._neutral_before.isdisjoint(words[max(0, start - 4) : start]):
            return False
        at_the_end = all(word in self._trailing or word == COMMA for word in words[end:])
        return at_the_end or tuple(words[start:end]) not in self._ambiguous_plain


def _last_clause(words: Sequence[str]) -> Sequence[str]:
    end = len(words)
    while end and words[end - 1] == COMMA:
        end -= 1
    start = end
    while start and words[start - 1] != COMMA:
        start -= 1
    return words[start:end]


_ENGLISH: Final = _English(RULES["english"]["questions"])
_VIETNAMESE: Final = _Vietnamese(RULES["vietnamese"]["questions"], plain=False)
_PLAIN: Final = _Vietnamese(RULES["vietnamese"]["questions"], plain=True)
