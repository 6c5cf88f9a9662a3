"""What this application offers to others (app.contracts): the score of a conversation, without storing anything."""

from datetime import datetime
from typing import Any

from app.config import ConversationSettings
from app.contracts import AnalyseConversation
from app.domains.conversations.formula import Formula
from app.domains.conversations.scoring import score_conversation


def make_analyse(settings: ConversationSettings) -> AnalyseConversation:
    """The scoring with the configured weights. Raises ConfigurationError."""
    weights = Formula.of(settings).weights

    def analyse(
        log: list[dict[str, Any]],
        *,
        bot_type: str,
        bot_id: str,
        start_time: datetime | None,
        end_time: datetime | None,
    ) -> dict[str, Any]:
        return score_conversation(
            log, bot_type=bot_type, bot_id=bot_id, start_time=start_time, end_time=end_time, weights=weights
        ).as_json()

    return analyse
