"""What crosses a border between applications: shapes that one offers and another asks for. app.applications joins them.

Holds no code of either side.
"""

from datetime import datetime
from typing import Any, Protocol


class AnalyseConversation(Protocol):
    """What the conversations application offers: judge a conversation without storing anything.

    Pure, deterministic, linear in the log's size; `log` are turns of speaker, text, timestamp and topic. Answers the
    score as JSON values: total_turns, user_initiated_questions, topic_metrics, session_emotion, sentiment, languages,
    parts, friendship_score_change.
    """

    def __call__(
        self,
        log: list[dict[str, Any]],
        *,
        bot_type: str,
        bot_id: str,
        start_time: datetime | None,
        end_time: datetime | None,
    ) -> dict[str, Any]: ...
