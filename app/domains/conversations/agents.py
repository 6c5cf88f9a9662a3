"""The agents that ship: rows for agent_prompting and friendship_agent_mapping, from data/agents.json.

A migration inserts them once; afterwards the tables are the truth.
"""

import json
from typing import Any

from app.domains.conversations.friendship import FriendshipLevel
from app.domains.conversations.selection import AgentMapping, AgentPrompting, BotType
from app.domains.conversations.tokens import DATA


def seed_agents() -> tuple[AgentPrompting, ...]:
    """Rows for agent_prompting."""
    return tuple(
        AgentPrompting(
            agent_id=row["agent_id"],
            agent_name=row["agent_name"],
            bot_type=BotType(row["bot_type"]),
            topics=tuple(row["topics"]),
            prompt_en=row["prompt_en"],
            prompt_vi=row["prompt_vi"],
        )
        for row in _document()["agent_prompting"]
    )


def seed_mapping() -> tuple[AgentMapping, ...]:
    """Rows for friendship_agent_mapping."""
    return tuple(
        AgentMapping(FriendshipLevel(row["friendship_level"]), row["agent_id"], float(row["weight"]))
        for row in _document()["friendship_agent_mapping"]
    )


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / "agents.json").read_text(encoding="utf-8"))
    return document
