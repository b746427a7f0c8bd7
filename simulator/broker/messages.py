"""What travels over a broker's control socket: one JSON object per line, a request in, an answer out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from simulator.broker.produce_errors import parse_error_code
from simulator.broker.topic import TopicSpec

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_DELAY_MILLISECONDS = 600_000
MAX_INJECTED_ERRORS = 100_000
MAX_LOSS_SECONDS = 600


class Message(BaseModel):
    """A request or an answer: frozen, and without fields that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CreateTopics(Message):
    """Create all of these topics, or none of them."""

    op: Literal["create_topics"] = "create_topics"
    topics: tuple[TopicSpec, ...] = Field(min_length=1)


class ListTopics(Message):
    """List every topic."""

    op: Literal["topics"] = "topics"


class GoDown(Message):
    """Refuse and cut connections."""

    op: Literal["down"] = "down"


class ComeUp(Message):
    """Take connections again."""

    op: Literal["up"] = "up"


class Slow(Message):
    """Delay every answer of the broker; 0 ends it."""

    op: Literal["slow"] = "slow"
    milliseconds: int = Field(ge=0, le=MAX_DELAY_MILLISECONDS)


class CutConnections(Message):
    """Cut every connection once; clients may come back at once."""

    op: Literal["cut"] = "cut"


class LoseAnswers(Message):
    """Swallow the broker's answers for so long, then cut the connections that lack one; 0 ends it."""

    op: Literal["lose_answers"] = "lose_answers"
    seconds: float = Field(ge=0, le=MAX_LOSS_SECONDS)


class SetTopicError(Message):
    """Show a topic with this Kafka error in metadata, given by name or number; null ends it."""

    op: Literal["topic_error"] = "topic_error"
    topic: str
    code: int | str | None

    @field_validator("code")
    @classmethod
    def _check_code(cls, code: int | str | None) -> int | str | None:
        if code is not None:
            parse_error_code(str(code))
        return code

    @property
    def number(self) -> int:
        """The error's number in the Kafka protocol, 0 for none."""
        return 0 if self.code is None else parse_error_code(str(self.code))


class RefuseProduce(Message):
    """Answer the next `count` Produce requests with this Kafka error, given by name or number."""

    op: Literal["error"] = "error"
    code: int | str
    count: int = Field(default=1, ge=1, le=MAX_INJECTED_ERRORS)

    @field_validator("code")
    @classmethod
    def _check_code(cls, code: int | str) -> int | str:
        parse_error_code(str(code))
        return code

    @property
    def number(self) -> int:
        """The error's number in the Kafka protocol."""
        return parse_error_code(str(self.code))


class AskStatus(Message):
    """Ask how the broker is set."""

    op: Literal["status"] = "status"


class Stop(Message):
    """End the broker."""

    op: Literal["stop"] = "stop"


Request = Annotated[
    CreateTopics
    | ListTopics
    | GoDown
    | ComeUp
    | CutConnections
    | Slow
    | LoseAnswers
    | RefuseProduce
    | SetTopicError
    | AskStatus
    | Stop,
    Field(discriminator="op"),
]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class BrokerStatus(Message):
    """How a running broker is set, and who it is."""

    state: Literal["up", "down"]
    delay_milliseconds: int
    loses_answers_seconds: float
    """How much longer its answers are swallowed; 0 if they are not."""
    topic_errors: dict[str, str]
    """The topics that metadata shows with an error, and its name."""
    connections: int
    bootstrap_servers: str
    pid: int


class StatusAnswer(Message):
    """The broker's state after the request."""

    status: BrokerStatus


class TopicsAnswer(Message):
    """The topics that exist, or that were created."""

    topics: tuple[TopicSpec, ...]


class Problem(Message):
    """Why a request was refused, in one sentence."""

    message: str


class Refusal(Message):
    """The answer to a request that was not carried out."""

    error: Problem
