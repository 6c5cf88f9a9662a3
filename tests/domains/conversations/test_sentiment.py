"""How a turn feels: tables in both languages, each rule, the same sentence in two languages, other languages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domains.conversations.language import Language, detect, words_of
from app.domains.conversations.lexicon import Emotion
from app.domains.conversations.sentiment import TurnFeeling, feel
from app.domains.conversations.tokens import read_sentences


def read(text: str) -> TurnFeeling:
    sentences = read_sentences(text)
    return feel(sentences, detect(words_of(sentences)))


def valence(text: str) -> float:
    return read(text).valence


GLAD = [
    "I love this movie so much!",
    "That was great fun, thank you",
    "It's not bad",
    "You are my best friend",
    "haha that is hilarious",
    "Con rất thích phim này!",
    "Hôm nay con vui quá trời luôn",
    "Buồn cười quá",
    "Bạn dễ thương ghê",
    "Món này ngon tuyệt",
    "Cảm ơn bạn nhiều nhé",
    "Không tệ chút nào",
    "hom nay minh rat vui",
    "phim nay hay qua, minh thich lam",
    "toi rat hanh phuc",
    "mình zui quá hihi",
    "vuiiii quáaaa",
    "I like phim này, hay quá",
    "con happy lắm luôn",
    "Chúc mừng sinh nhật bạn",
    "hoà thuận, khoẻ mạnh",
]
LOW = [
    "I am so sad today",
    "I don't like it at all",
    "nobody likes me",
    "You are stupid, shut up",
    "This is boring",
    "I was scared of the dark",
    "Hôm nay con buồn lắm",
    "Con không thích phim này",
    "không ai chơi với con",
    "Phim chán ngắt",
    "Đồ ngốc, im đi",
    "Em sợ ma quá",
    "Có vui đâu",
    "Mình ko thik đâu",
    "Con bị điểm kém, con lo lắng lắm",
    "hom nay minh buon qua",
    "minh khong vui",
    "toi that vong lam",
    "phim nay chan ngat",
    "mình hate cái này, so boring",
]
NEITHER = [
    "The table is brown",
    "Con đi học lúc bảy giờ",
    "Thế giới có bảy châu lục",
    "Hay là mình đọc sách",
    "toi di hoc",
    "no",
    "",
    "No me gusta nada",
    "Das ist gut",
    "我很难过",
]


@pytest.mark.parametrize("text", GLAD)
def test_glad(text: str) -> None:
    assert valence(text) > 0.15


@pytest.mark.parametrize("text", LOW)
def test_low(text: str) -> None:
    assert valence(text) < -0.15


@pytest.mark.parametrize("text", NEITHER)
def test_neither(text: str) -> None:
    assert abs(valence(text)) < 0.1


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("it is good", "it is very good"),
        ("it is a little good", "it is good"),
        ("it is good", "it is good!!"),
        ("phim này đẹp", "phim này rất đẹp"),
        ("con thấy hơi vui", "con thấy vui"),
        ("con thấy vui", "con thấy vui lắm"),
        ("con thấy vui", "con thấy vui kinh khủng"),
        ("con thấy vui", "con thấy vui!"),
        ("are you happy?", "you are happy"),
        ("bạn có vui không?", "bạn vui"),
    ],
)
def test_intensifiers(weaker: str, stronger: str) -> None:
    assert 0 < valence(weaker) < valence(stronger)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("the music is good but the end is sad", "the end is sad but the music is good"),
        ("nhạc hay quá nhưng kết buồn", "kết buồn nhưng nhạc hay quá"),
    ],
)
def test_what_follows_but_weighs_more(first: str, last: str) -> None:
    assert valence(first) < 0 < valence(last)


def test_a_comma_ends_the_reach_of_a_negation() -> None:
    assert valence("no, I like it") > 0
    assert valence("không, con thích mà") > 0


def test_two_negations_make_a_weak_yes() -> None:
    assert 0 < valence("không phải là con không thích") < valence("con thích")


@pytest.mark.parametrize(
    ("english", "vietnamese"),
    [
        ("I am happy", "Con hạnh phúc"),
        ("I am very sad", "Con rất buồn"),
        ("I don't like this film", "Con không thích phim này"),
        ("I love you, mom", "Con yêu mẹ"),
        ("I am scared", "Con sợ"),
        ("This is boring", "Cái này chán"),
        ("Thank you so much!", "Cảm ơn nhiều!"),
        ("You are stupid", "Bạn ngu ngốc"),
        ("The music is good but the end is sad", "Nhạc thì tốt nhưng kết thì buồn"),
        ("Are you happy?", "Bạn có vui không?"),
    ],
)
def test_the_same_in_two_languages(english: str, vietnamese: str) -> None:
    one, other = read(english), read(vietnamese)
    assert one.valence == pytest.approx(other.valence, abs=0.2)
    assert (one.valence > 0) == (other.valence > 0)
    assert one.asks == other.asks


@pytest.mark.parametrize(
    ("emotion", "text"),
    [
        (Emotion.JOY, "I am so happy"),
        (Emotion.JOY, "con vui lắm"),
        (Emotion.LOVE, "con yêu mẹ"),
        (Emotion.SADNESS, "I feel lonely"),
        (Emotion.SADNESS, "con cô đơn lắm"),
        (Emotion.SADNESS, "con không vui"),
        (Emotion.FEAR, "tối nay con sợ quá"),
        (Emotion.ANGER, "mình tức lắm"),
        (Emotion.HOSTILITY, "im đi"),
        (Emotion.HOSTILITY, "go away"),
        (Emotion.BOREDOM, "chán quá"),
    ],
)
def test_emotions(emotion: Emotion, text: str) -> None:
    emotions = read(text).emotions
    assert max(emotions, key=lambda one: emotions[one]) is emotion


def test_other_languages_speak_by_emoji_alone() -> None:
    assert valence("Me gusta mucho, gracias") == 0
    assert valence("Me gusta mucho, gracias 😍") > 0.3
    assert valence("Ich bin traurig, das ist nicht gut :(") < -0.3


def test_english_words_that_are_vietnamese_ones_do_not_count_in_vietnamese() -> None:
    assert valence("ban cua minh ten la Hoa") == 0  # "ban" (friend) is no ban
    assert valence("con ăn no rồi") == 0  # "no" (full) is no "no"


@settings(deadline=None)
@given(st.text(st.characters(codec=None), max_size=300), st.sampled_from(Language))
def test_bounded_and_deterministic_on_any_text(text: str, language: Language) -> None:
    sentences = read_sentences(text)
    feeling = feel(sentences, language)
    assert -1 <= feeling.valence <= 1
    assert all(weight >= 0 for weight in feeling.emotions.values())
    assert feeling == feel(sentences, language)


SOUP = st.lists(
    st.sampled_from(
        [
            "not",
            "very",
            "good",
            "bad",
            "but",
            ",",
            ".",
            "?",
            "!",
            "😂",
            ":(",
            "không",
            "rất",
            "vui",
            "buồn",
            "lắm",
            "nhưng",
        ]
    ),
    max_size=60,
).map(" ".join)


@settings(deadline=None)
@given(SOUP, st.sampled_from(Language))
def test_bounded_on_feeling_words_in_any_order(text: str, language: Language) -> None:
    assert -1 <= feel(read_sentences(text), language).valence <= 1
