"""Admits requests: everything that can be known to be wrong is said before a request is durable."""

from collections.abc import Callable, Collection
from datetime import timedelta
from uuid import uuid4

from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMComparisonRequest, LLMQueuedResponse, QueuedRequest
from service.contracts.tokens import estimate_request
from service.core.errors import (
    AcceptedBefore,
    BrokerUnavailable,
    QueueUnavailable,
    QueueUncertain,
    Refused,
)
from service.core.ports import Clock, Outbox, RequestQueue, TopicDirectory, UndeliveredCallbacks
from service.core.records import Receipt, Submission
from service.core.shares import find_room
from service.core.topic_policy import TopicPolicy, refuse_absent
from service.engine.idempotency import Idempotency, require_same_body
from service.engine.phase import Phase, PhaseGate
from service.engine.routing import Router

QUEUE_FULL_RETRY_SECONDS = 5
DRAINING_RETRY_SECONDS = 10
STARTING_RETRY_SECONDS = 1
BROKER_AWAY_RETRY_SECONDS = 5
QUEUE_UNAVAILABLE_RETRY_SECONDS = 5


class Intake:
    """Turns a request into a durable row and its queue id, or refuses it."""

    def __init__(
        self,
        *,
        gate: PhaseGate,
        queue: RequestQueue,
        outbox: Outbox,
        undelivered: UndeliveredCallbacks,
        idempotency: Idempotency,
        topics: Callable[[str | None], TopicPolicy],
        directory: TopicDirectory,
        router: Router,
        clock: Clock,
        max_size: int,
        default_ttl_seconds: float,
        callers: Collection[str] = (),
    ) -> None:
        self._gate = gate
        self._queue = queue
        self._outbox = outbox
        self._undelivered = undelivered
        self._idempotency = idempotency
        self._topics = topics
        self._directory = directory
        self._router = router
        self._clock = clock
        self._max_size = max_size
        self._default_ttl_seconds = default_ttl_seconds
        self._callers = tuple(callers)
        self._being_written = 0

    def check_phase(self) -> None:
        """Raises `Refused` unless the service is ready."""
        phase = self._gate.current
        if phase is Phase.READY:
            return
        if phase is Phase.STARTING:
            raise Refused(
                LLMErrorCode.INTERNAL_ERROR,
                "The service is starting; try again in a moment.",
                details={"phase": phase.value},
                retry_after_seconds=STARTING_RETRY_SECONDS,
            )
        raise Refused(
            LLMErrorCode.SERVICE_DRAINING,
            "The service is draining and takes no new requests; try another instance or again later.",
            details={"phase": phase.value},
            retry_after_seconds=DRAINING_RETRY_SECONDS,
        )

    async def submit(self, request: LLMComparisonRequest, submission: Submission) -> LLMQueuedResponse:
        """Returns once the request is durable. Raises `Refused`; then nothing of it was kept."""
        self.check_phase()
        await self.check_topic(request.callback_topic, submission.caller)
        self._router.choose(request.llm_config_overrides)
        try:
            async with self._idempotency.hold(submission) as receipt:
                if receipt is not None:
                    return _answer_again(receipt)
                # Again, because a drain may have begun while the topic was looked for: drained is drained.
                self.check_phase()
                self._check_room(submission.caller)
                queued = self._make_queued(request, submission)
                position = await self._put(queued)
        except AcceptedBefore as earlier:
            require_same_body(earlier.receipt, submission)
            return _answer_again(earlier.receipt)
        except QueueUncertain as error:
            raise Refused(
                LLMErrorCode.INTERNAL_ERROR,
                "The durable queue did not confirm the request; it may have been accepted all the same. "
                "Send it again under the same Idempotency-Key.",
                retry_after_seconds=QUEUE_UNAVAILABLE_RETRY_SECONDS,
            ) from error
        except QueueUnavailable as error:
            raise Refused(
                LLMErrorCode.INTERNAL_ERROR,
                "The durable queue cannot be written at the moment; nothing was accepted. Try again later.",
                retry_after_seconds=QUEUE_UNAVAILABLE_RETRY_SECONDS,
            ) from error
        return LLMQueuedResponse(
            queue_id=queued.queue_id,
            correlation_id=queued.correlation_id,
            callback_topic=queued.callback_topic,
            queue_position=position,
            message=f"Queued; the result will be published to {queued.callback_topic}.",
        )

    def _make_queued(self, request: LLMComparisonRequest, submission: Submission) -> QueuedRequest:
        now = self._clock.now()
        ttl_seconds = min(request.ttl_seconds or self._default_ttl_seconds, _MAX_TTL_SECONDS)
        return QueuedRequest(
            queue_id=str(uuid4()),
            correlation_id=request.correlation_id,
            callback_topic=request.callback_topic,
            request_data=request,
            queued_at=now,
            expires_at=now + timedelta(seconds=ttl_seconds),
            caller=submission.caller,
            idempotency_key=submission.idempotency_key,
            body_digest=submission.body_digest,
            run_id=submission.run_id,
            traceparent=submission.traceparent,
        )

    async def check_topic(self, topic: str, caller: str | None) -> None:
        """Raises `Refused` unless the caller may have its callback on this topic and it exists."""
        self._topics(caller).check(topic)
        try:
            exists = await self._directory.exists(topic)
        except BrokerUnavailable as error:
            raise Refused(
                LLMErrorCode.INTERNAL_ERROR,
                f"Whether callback_topic {topic} exists cannot be found out while the broker is away; "
                "try again later.",
                details={"callback_topic": topic},
                retry_after_seconds=BROKER_AWAY_RETRY_SECONDS,
            ) from error
        if not exists:
            raise refuse_absent(topic)

    def _check_room(self, caller: str | None) -> None:
        stats = self._queue.stats()
        undelivered = self._outbox.depth() + self._undelivered.parked()
        held = stats.waiting + stats.claimed + stats.elsewhere + undelivered + self._being_written
        if find_room(self._max_size, held, caller, self._callers, stats.of_caller) > 0:
            return
        reason = f"The queue is full: {self._max_size} requests and undelivered callbacks are held"
        if held < self._max_size:
            reason = "The queue has no more room for this caller: the rest is kept free for the others"
        raise Refused(
            LLMErrorCode.QUEUE_FULL,
            f"{reason}; try again later.",
            details={"capacity": self._max_size},
            retry_after_seconds=QUEUE_FULL_RETRY_SECONDS,
        )

    async def _put(self, queued: QueuedRequest) -> int:
        self._being_written += 1
        try:
            return await self._queue.put(queued, estimate_request(queued.request_data).total)
        finally:
            self._being_written -= 1


def _answer_again(receipt: Receipt) -> LLMQueuedResponse:
    return LLMQueuedResponse(
        queue_id=receipt.queue_id,
        correlation_id=receipt.correlation_id,
        callback_topic=receipt.callback_topic,
        queue_position=1,
        message="Accepted before under this Idempotency-Key; there is and will be one callback for both.",
    )


_MAX_TTL_SECONDS = timedelta(days=3650).total_seconds()  # beyond it the sum would not fit a datetime
