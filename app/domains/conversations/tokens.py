"""Text into sentences of words: Unicode composed, lower case, Vietnamese tones spelled one way; linear time.

Knows no language's words; `lexicon` and `language` do.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"
COMMA: Final = ","

TONES: Final = "\u0300\u0301\u0303\u0309\u0323"
_TONE_BEFORE_SHAPE: Final = re.compile(f"([{TONES}])([\u0302\u0306\u031b])")
# Pieces of bounded length, cut at white space where there is some: canonical ordering of combining marks is
# quadratic in the length of a run of marks (CPython issue 149079), and a log may hold nothing but marks.
_PIECE: Final = re.compile(r"[\s\S]{1,256}(?=\s)|[\s\S]{1,256}")
_LONGEST_WORD: Final = 40  # letters; longer ones are in no lexicon and must not fill the caches
_APOSTROPHES: Final = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "´": "'", "`": "'"})


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words as `spell` writes them, `COMMA` where a clause ends, emoji and emoticons as own words."""

    words: tuple[str, ...]
    ending: str

    @property
    def marked_as_question(self) -> bool:
        """A question mark of any script ends the sentence."""
        return any(mark in self.ending for mark in "?？؟՞፧")


def read_table(name: str) -> list[list[str]]:
    """Rows of a tab-separated data file, without its comment lines."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def compose(text: str) -> str:
    """NFC, also when a Vietnamese tone was typed before the letter's shape."""
    if text.isascii():
        return text
    return "".join(_compose_piece(piece) for piece in _PIECE.findall(text))


def _compose_piece(piece: str) -> str:
    if unicodedata.is_normalized("NFC", piece) and not _has_tone_mark(piece):
        return piece
    reordered = _TONE_BEFORE_SHAPE.sub(r"\2\1", unicodedata.normalize("NFD", piece))
    return unicodedata.normalize("NFC", reordered)


def _has_tone_mark(piece: str) -> bool:
    return any(tone in piece for tone in TONES)


def spell(word: str) -> str:
    """One spelling per word: the tone mark stands at the end, so that "hoà" and "hòa" are the same word."""
    return word if word.isascii() or len(word) > _LONGEST_WORD else _spell(word)


def strip_marks(word: str) -> str:
    """The word as typed without diacritics; "đ" becomes "d"."""
    return word if word.isascii() or len(word) > _LONGEST_WORD else _strip_marks(word)


@lru_cache(maxsize=16_384)
def _spell(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word)
    tones = "".join(sorted(mark for mark in decomposed if mark in TONES))
    bare = "".join(mark for mark in decomposed if mark not in TONES)
    return unicodedata.normalize("NFC", bare) + tones


@lru_cache(maxsize=16_384)
def _strip_marks(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(mark for mark in decomposed if not unicodedata.combining(mark)).replace("đ", "d")


def spell_phrase(phrase: str) -> tuple[str, ...]:
    """The words of a lexicon entry, in the spelling that sentences have."""
    return tuple(spell(word) for word in compose(phrase.lower()).split())


def _token_pattern() -> re.Pattern[str]:
    symbols = [row[0].lower() for row in read_table("symbols.tsv")]
    emoji = "".join(re.escape(symbol) for symbol in symbols if len(symbol) == 1)
    emoticons = sorted({symbol for symbol in symbols if len(symbol) > 1}, key=len, reverse=True)
    first = "".join(re.escape(letter) for letter in sorted({symbol[0] for symbol in emoticons}))
    return re.compile(
        r"(?P<address>(?:https?://|www\.)\S+)"
        rf"|(?P<symbol>[{emoji}]|(?=[{first}])(?<!\w)(?:{'|'.join(map(re.escape, emoticons))})(?!\w))"
        r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
        r"|(?P<end>[.!?…。！？؟՞፧\n]+)"
        r"|(?P<comma>[,:;，、()\"])"
    )


_TOKEN: Final = _token_pattern()


def read_sentences(text: str) -> list[Sentence]:
    """Split `text`; sentences without a word or symbol are left out. Never raises."""
    sentences: list[Sentence] = []
    words: list[str] = []
    for token in _TOKEN.finditer(compose(text).lower().translate(_APOSTROPHES)):
        kind = token.lastgroup
        if kind == "word":
            words.append(spell(token.group()))
        elif kind == "symbol":
            words.append(token.group())
        elif kind == "comma":
            words.append(COMMA)
        elif kind == "end" and words:
            sentences.append(Sentence(tuple(words), token.group()))
            words = []
    if words:
        sentences.append(Sentence(tuple(words), ""))
    return sentences
