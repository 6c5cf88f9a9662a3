"""Questions with and without a question mark, in both languages; what only looks like one; other languages."""

import pytest

from app.domains.conversations.language import detect, words_of
from app.domains.conversations.sentiment import feel
from app.domains.conversations.tokens import read_sentences

QUESTIONS = [
    "How are you",
    "how are you doing today",
    "hey, do you like cats",
    "ok so what do you like to eat",
    "who won the game",
    "why is the sky blue",
    "why not",
    "can you help me",
    "would you like to play",
    "tell me about sharks",
    "how many legs does a spider have",
    "what happened",
    "what time is it",
    "is it raining",
    "you like pizza, right",
    "it is nice, isn't it",
    "where do you live",
    "It was fun. Did you go too",
    "Really?",
    "Bạn tên là gì",
    "bạn có vui không",
    "Bạn có thích phim này không ạ",
    "con ăn cơm chưa",
    "bạn ăn cơm chưa vậy",
    "Tại sao trời màu xanh",
    "Bạn thích màu nào nhất",
    "thế còn bạn thì sao",
    "mấy giờ rồi",
    "bạn bao nhiêu tuổi",
    "mình đi đâu vậy",
    "bạn đang làm gì thế",
    "đẹp quá nhỉ",
    "bạn buồn hả",
    "ai là bạn thân của bạn",
    "mình nói đúng không",
    "ban ten la gi",
    "ban co thich choi game khong",
    "tai sao ban buon",
    "ban an com chua",
    "bạn thik gì",
    "bạn có biết ko",
    "Bạn khỏe không?",
    "¿Cómo estás?",
    "你好吗？",
    "كيف حالك؟",
]
STATEMENTS = [
    "What a great day",
    "what I like is ice cream",
    "when I was young I liked cats",
    "How nice",
    "I know who he is",
    "have a nice day",
    "I am not sure",
    "The question is hard",
    "no",
    "see https://example.com/?a=1",
    "Không có gì",
    "con không biết làm gì",
    "ai cũng thích",
    "cái gì con cũng thích",
    "mình muốn ăn cái gì đó",
    "không sao đâu",
    "mẹ bảo là không",
    "mình vẫn chưa",
    "không",
    "con thích bạn lắm",
    "ước gì trời mưa",
    "có vui đâu",
    "hom nay minh rat vui",
    "toi khong biet",
    "很高兴认识你。",
    "No me gusta.",
    "",
]


def asks(text: str) -> bool:
    sentences = read_sentences(text)
    return feel(sentences, detect(words_of(sentences))).asks


@pytest.mark.parametrize("text", QUESTIONS)
def test_asks(text: str) -> None:
    assert asks(text)


@pytest.mark.parametrize("text", STATEMENTS)
def test_does_not_ask(text: str) -> None:
    assert not asks(text)
