"""What was called back lately, and where it stands: ids, places and times, never a result."""

from dataclasses import dataclass

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import BrokerUnavailable, QueueUnavailable, Refused
from service.core.ports import CallbackJournal
from service.core.records import JournalPage

UNAVAILABLE_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal as operators read it."""

    callbacks: CallbackJournal
    retention_hours: float
    """How far it goes back; 0 where none is kept."""

    async def list_page(self, after: str | None, limit: int) -> JournalPage:
        """About `limit` entries behind the place `after`, oldest first. Raises `Refused`."""
        if self.retention_hours <= 0:
            raise Refused(
                LLMErrorCode.NOT_FOUND, "This service keeps no journal; JOURNAL_RETENTION_HOURS is 0."
            )
        try:
            return await self.callbacks.list_journal(after, limit)
        except ValueError as error:
            raise Refused(
                LLMErrorCode.INVALID_REQUEST,
                "after: must be `next` of the page before.",
                details={"field": "after"},
            ) from error
        except (QueueUnavailable, BrokerUnavailable) as error:
            raise Refused(
                LLMErrorCode.INTERNAL_ERROR,
                "The queue cannot be read at the moment; its log says why. Try again later.",
                retry_after_seconds=UNAVAILABLE_RETRY_SECONDS,
                status=503,
            ) from error
