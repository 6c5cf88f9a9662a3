"""One word for how the user felt over a whole conversation, from the feelings of the user's turns."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from app.domains.conversations.lexicon import Emotion
from app.domains.conversations.sentiment import TurnFeeling


class SessionEmotion(StrEnum):
    """How the user felt over the conversation as a whole. A closed set."""

    HAPPY = "happy"
    AFFECTIONATE = "affectionate"
    CURIOUS = "curious"
    NEUTRAL = "neutral"
    MIXED = "mixed"
    BORED = "bored"
    SAD = "sad"
    ANXIOUS = "anxious"
    ANGRY = "angry"
    UPSET = "upset"
    """Negative, but no word says which way."""


_NEGATIVE: Final = {
    Emotion.ANGER: SessionEmotion.ANGRY,
    Emotion.HOSTILITY: SessionEmotion.ANGRY,
    Emotion.SADNESS: SessionEmotion.SAD,
    Emotion.FEAR: SessionEmotion.ANXIOUS,
    Emotion.BOREDOM: SessionEmotion.BORED,
}


def session_emotion(feelings: Sequence[TurnFeeling]) -> SessionEmotion:
    """The label for the user's turns. The first rule that holds decides; docs/scoring.md lists them."""
    if not feelings:
        return SessionEmotion.NEUTRAL
    mean = sum(feeling.valence for feeling in feelings) / len(feelings)
    weight = {emotion: sum(turn.emotions.get(emotion, 0.0) for turn in feelings) for emotion in Emotion}
    glad = sum(feeling.valence >= 0.3 for feeling in feelings) / len(feelings)
    low = sum(feeling.valence <= -0.3 for feeling in feelings) / len(feelings)
    if glad >= 0.2 and low >= 0.2 and abs(mean) < 0.15:
        return SessionEmotion.MIXED
    if mean >= 0.1:
        loving = weight[Emotion.LOVE] > weight[Emotion.JOY]
        return SessionEmotion.AFFECTIONATE if loving else SessionEmotion.HAPPY
    if mean <= -0.1:
        strongest = max(_NEGATIVE, key=lambda emotion: weight[emotion])
        return _NEGATIVE[strongest] if weight[strongest] > 0 else SessionEmotion.UPSET
    curious = sum(feeling.asks for feeling in feelings) / len(feelings)
    return SessionEmotion.CURIOUS if curious >= 0.3 else SessionEmotion.NEUTRAL
