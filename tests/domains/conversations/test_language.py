"""Which language a turn is in: tables for English, Vietnamese with and without diacritics, both, and others."""

import pytest

from app.domains.conversations.language import Language, detect, is_vietnamese_syllable, words_of
from app.domains.conversations.tokens import read_sentences

TABLE = [
    (Language.ENGLISH, "I really like this movie"),
    (Language.ENGLISH, "what are you doing"),
    (Language.ENGLISH, "The café is nice"),
    (Language.VIETNAMESE, "Hôm nay con rất vui"),
    (Language.VIETNAMESE, "mình không biết nữa"),
    (Language.VIETNAMESE, "đẹp quá"),
    (Language.VIETNAMESE, "con happy lắm luôn"),
    (Language.VIETNAMESE_PLAIN, "hom nay minh rat vui"),
    (Language.VIETNAMESE_PLAIN, "ban ten la gi"),
    (Language.VIETNAMESE_PLAIN, "minh khong thich phim nay"),
    (Language.MIXED, "I like phim này, it is so hay"),
    (Language.MIXED, "mình thích this song and the video"),
    (Language.OTHER, "No me gusta esta película"),
    (Language.OTHER, "Das ist nicht gut, ich bin traurig"),
    (Language.OTHER, "Je ne suis pas content"),
    (Language.OTHER, "Non sono molto felice oggi"),
    (Language.OTHER, "Saya tidak suka film ini"),
    (Language.OTHER, "很高兴认识你"),
    (Language.OTHER, "Привет, как дела?"),
    (Language.OTHER, "สวัสดีครับ"),
    (Language.UNKNOWN, ""),
    (Language.UNKNOWN, "😂 12 !!!"),
    (Language.UNKNOWN, "dang"),
    (Language.UNKNOWN, "ha ha ha"),
]


@pytest.mark.parametrize(("language", "text"), TABLE, ids=[text for _, text in TABLE])
def test_the_language_of_a_turn(language: Language, text: str) -> None:
    assert detect(words_of(read_sentences(text))) is language


@pytest.mark.parametrize("word", ["nghiêng", "khuya", "quyển", "giường", "yêu", "ước", "ban", "gì", "thuyền"])
def test_what_a_vietnamese_syllable_looks_like(word: str) -> None:
    assert is_vietnamese_syllable(word)


@pytest.mark.parametrize(
    "word", ["movie", "great", "the movie", "strong", "jazz", "wow", "schon", "feel", ""]
)
def test_what_it_does_not_look_like(word: str) -> None:
    assert not is_vietnamese_syllable(word)
