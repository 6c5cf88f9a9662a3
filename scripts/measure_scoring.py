"""How well the scoring reads text, measured on the demo's corpora; the figures of docs/scoring.md come from here.

Not a test: nothing is asserted, the numbers are to be read.  Usage: python scripts/measure_scoring.py
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import correlation
from time import perf_counter

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also when run by its path

from app.domains.conversations.language import Language, detect, words_of
from app.domains.conversations.questions import is_question
from app.domains.conversations.scoring import score_conversation
from app.domains.conversations.sentiment import feel
from app.domains.conversations.tokens import Sentence, read_sentences
from scripts.demo_corpus import CHITCHAT, DemoConversation, load_conversations

MIB = 1024 * 1024


def main() -> None:
    loaded = load_conversations(2000, written=False)
    chats = [_texts(one) for one in loaded if one.source == CHITCHAT]
    _languages(loaded)
    _against_vader([text for chat in chats for text in chat])
    _questions([text for chat in chats for text in chat])
    _speed()


def _texts(conversation: DemoConversation) -> list[str]:
    return [entry["text"] for entry in conversation.body["conversation_log"]]


def _languages(loaded: Sequence[DemoConversation]) -> None:
    """English conversations are to be found English, those of other languages other; none is Vietnamese."""
    found: Counter[tuple[str, str]] = Counter()
    for one in loaded:
        words = [word for text in _texts(one) for word in words_of(read_sentences(text))]
        english = one.source in (CHITCHAT, "chatterbot-corpus/english")
        found["English" if english else "other", detect(words).value] += 1
    print(
        "language, conversations:", {f"{is_} read as {read}": n for (is_, read), n in sorted(found.items())}
    )


def _against_vader(texts: Sequence[str]) -> None:
    """Our valence of English lines against VADER's own rules, which score English alone."""
    vader = SentimentIntensityAnalyzer()
    pairs = [
        (feel(read_sentences(text), Language.ENGLISH).valence, vader.polarity_scores(text)["compound"])
        for text in texts
    ]
    signs = Counter((_sign(ours), _sign(theirs)) for ours, theirs in pairs)
    same = sum(count for (ours, theirs), count in signs.items() if ours == theirs)
    opposite = sum(count for (ours, theirs), count in signs.items() if ours * theirs < 0)
    together = correlation([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    print(
        f"{len(texts)} English lines: same sign as VADER {same / len(texts):.1%}, opposite {opposite / len(texts):.1%},"
    )
    print(f"  correlation {together:.2f}")


def _sign(valence: float) -> int:
    return (valence >= 0.05) - (valence <= -0.05)


def _questions(texts: Sequence[str]) -> None:
    """Sentences of three words and more that end in a mark: is a question found when the mark is hidden?"""
    found: Counter[tuple[bool, bool]] = Counter()
    for sentence in (sentence for text in texts for sentence in read_sentences(text)):
        if len(sentence.words) >= 3 and sentence.ending:
            bare = Sentence(sentence.words, "")
            found[sentence.marked_as_question, is_question(bare, bare.words, Language.ENGLISH)] += 1
    precision = found[True, True] / (found[True, True] + found[False, True])
    recall = found[True, True] / (found[True, True] + found[True, False])
    print(f"{found.total()} English sentences, mark hidden: precision {precision:.1%}, recall {recall:.1%}")


def _speed() -> None:
    for name, text in (
        ("English", "I really loved that movie, but the ending was not very good! What did you think? "),
        (
            "Vietnamese",
            "Hôm nay con rất vui vì được đi chơi với bạn, nhưng con hơi mệt. Bạn có thích không? ",
        ),
    ):
        entry = {"speaker": "user", "text": text * 5}
        log = [entry] * (MIB // len(json.dumps(entry, ensure_ascii=False).encode()))
        score_conversation(log[:1], bot_type="TALK")  # reads the lexicons
        start = perf_counter()
        score_conversation(log, bot_type="TALK")
        print(f"1 MiB of {name}: {perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
