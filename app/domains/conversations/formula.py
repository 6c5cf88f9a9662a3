"""What a worker knows of processing before the first conversation comes: the payload, and every configured number.

Without SQLAlchemy, which processing.py brings.
"""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ValidationError

from app.config import ConversationSettings
from app.domains.conversations.friendship import FriendshipThresholds
from app.domains.conversations.scoring import ScoringWeights
from app.domains.conversations.selection import SelectionRules
from app.errors import ConfigurationError


class ProcessConversation(BaseModel):
    """The job's payload."""

    event_id: UUID


@dataclass(frozen=True, slots=True)
class Formula:
    """Every number that can be configured."""

    weights: ScoringWeights
    thresholds: FriendshipThresholds
    rules: SelectionRules

    @classmethod
    def of(cls, settings: ConversationSettings) -> "Formula":
        """The defaults with what the settings change. Raises ConfigurationError."""
        try:
            return cls(
                ScoringWeights.model_validate(settings.scoring),
                FriendshipThresholds.model_validate(settings.thresholds),
                SelectionRules.model_validate(settings.selection),
            )
        except ValidationError as error:
            raise ConfigurationError(
                "invalid-settings", f"the scoring settings do not fit: {error}"
            ) from None
