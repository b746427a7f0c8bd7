"""The client for Python programs: submit a comparison and await its callback.

    from llmctl.library import connect

    async with connect() as client:
        result = await client.compare("Which essay is better?", essay_a, essay_b, callback_topic="results")
        print(result.winner)

`docs/python-client.md` shows the rest, `llmctl.client.problems` draws what can be raised.
"""

from llmctl.client.arrivals import Callback
from llmctl.client.comparisons import ComparisonClient, RequestOptions
from llmctl.client.connection import connect
from llmctl.client.listener import Listener
from llmctl.client.pending import Pending
from llmctl.client.positions import Position
from llmctl.client.problems import (
    BrokerOutOfReach,
    CallbackUnreadable,
    ClientClosed,
    ClientProblem,
    ComparisonFailed,
    PositionLost,
    Refused,
    ServiceOutOfReach,
    TimedOut,
    TopicUnreadable,
    WrongSetting,
)
from llmctl.client.starts import Start
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import LLMComparisonResultV1
from service.contracts.requests import LLMConfigOverrides

__all__ = [
    "BrokerOutOfReach",
    "Callback",
    "CallbackUnreadable",
    "ClientClosed",
    "ClientProblem",
    "ComparisonClient",
    "ComparisonFailed",
    "LLMComparisonResultV1",
    "LLMConfigOverrides",
    "LLMErrorCode",
    "Listener",
    "Pending",
    "Position",
    "PositionLost",
    "Refused",
    "RequestOptions",
    "ServiceOutOfReach",
    "Start",
    "TimedOut",
    "TopicUnreadable",
    "WrongSetting",
    "connect",
]
