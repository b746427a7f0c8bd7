"""Asks a vendor's model for a judgement: the same steps for every vendor, each taken by its dialect."""

from dataclasses import replace
from typing import Any, Final

import httpx
import structlog

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMConfigOverrides
from service.core.errors import ProviderFailure
from service.core.keys import KeyReport, KeyStatus, judge_failure
from service.core.outcome import Judgement, ProviderReply, Usage
from service.core.prompt import read_judgement
from service.core.records import ProviderCall
from service.providers.catalogue import Catalogue
from service.providers.dialect import Completion, Dialect, Ending
from service.providers.documents import parse
from service.providers.exchange import Answer, exchange

_OF_ENDING: Final[dict[Ending, tuple[LLMErrorCode, bool, str]]] = {
    # code, retryable, what happened; {} is the vendor
    Ending.LENGTH: (
        LLMErrorCode.INVALID_RESPONSE,
        False,
        "The answer hit its token limit; allow more tokens.",
    ),
    Ending.REFUSED: (
        LLMErrorCode.INVALID_RESPONSE,
        False,
        "The model refused to compare these essays.",
    ),
    Ending.WITHHELD: (
        LLMErrorCode.INVALID_RESPONSE,
        False,
        "{}'s content filter withheld the answer.",
    ),
    Ending.SHAPELESS: (
        LLMErrorCode.PARSING_ERROR,
        True,
        "{}'s answer is no completion with a text.",
    ),
}

MOST_TIMES_THE_COST: Final = 10
"""A usage that costs more than this many times what the call could cost at most isn't believed."""

_log = structlog.get_logger("service.providers")

_OF_KEY_CHECK: Final = frozenset({"data", "models"})
"""What every vendor's answer to a key check has one of."""


class RemoteProvider:
    """Asks one vendor. Owns `transport`."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        default_model: str,
        catalogue: Catalogue,
        transport: httpx.AsyncBaseTransport,
    ) -> None:
        self._dialect = dialect
        self._default_model = default_model
        self._catalogue = catalogue
        self._transport = transport
        self._models_without_usage: set[str] = set()

    def __repr__(self) -> str:
        where = f"{self.name.value} at {self._dialect.base_url}"
        return f"RemoteProvider({where!r}, default_model={self._default_model!r})"

    @property
    def name(self) -> LLMProviderType:
        """Whose models it asks."""
        return self._dialect.name

    @property
    def default_model(self) -> str:
        """Where a request names no model."""
        return self._default_model

    @property
    def models(self) -> tuple[str, ...]:
        """What the catalogue has of it."""
        return self._catalogue.names(self.name)

    def find_objection(self, model: str, overrides: LLMConfigOverrides | None) -> str | None:
        """Says in a sentence why the catalogue does not allow this configuration, or None where it does."""
        return self._catalogue.find_objection(self.name, model, overrides)

    async def compare(self, call: ProviderCall) -> ProviderReply:
        """Asks once. Raises `ProviderFailure` and nothing else; keeps to `call.timeout_seconds`."""
        request = self._dialect.compose(call, self._catalogue.find(self.name, call.model))
        try:
            answer = await exchange(self._transport, request, timeout_seconds=call.timeout_seconds)
        except ProviderFailure as failure:
            raise replace(failure, model=call.model) from failure
        if answer.status != httpx.codes.OK:
            raise replace(self._dialect.explain(answer), model=call.model)
        return self._read_reply(answer, call)

    async def check_key(self, timeout_seconds: float) -> KeyReport:
        """Tries the key with a call that costs nothing. Raises nothing; keeps to the limit."""
        request = self._dialect.compose_key_check()
        try:
            answer = await exchange(self._transport, request, timeout_seconds=timeout_seconds)
        except ProviderFailure as failure:
            return judge_failure(failure)
        title = self._dialect.title
        if answer.status != httpx.codes.OK:
            return judge_failure(self._dialect.explain(answer))
        if parse(answer.body).keys().isdisjoint(_OF_KEY_CHECK):
            return KeyReport(
                KeyStatus.UNEXPECTED,
                f"What answers at {title}'s base URL is not its API; check the base URL setting.",
            )
        return KeyReport(KeyStatus.ACCEPTED, f"{title} accepts the key.")

    async def close(self) -> None:
        """Closes its connections."""
        await self._transport.aclose()

    def _read_reply(self, answer: Answer, call: ProviderCall) -> ProviderReply:
        completion = self._dialect.read(answer)
        model = completion.model or call.model
        usage = self._price(completion, call)
        if not usage.is_known:
            self._warn_about_usage(call.model)
        try:
            judgement = self._read_judgement(completion)
        except ProviderFailure as failure:
            details: dict[str, Any] = {"status": answer.status, **failure.details}
            if completion.request_id is not None:
                details["provider_request_id"] = completion.request_id
            billed = not usage.is_known
            raise replace(
                failure, usage=usage, model=model, may_be_billed=billed, details=details
            ) from failure
        return ProviderReply(judgement, model, usage, self._dialect.read_window(answer))

    def _read_judgement(self, completion: Completion) -> Judgement:
        if completion.failure is not None:
            raise completion.failure
        if completion.ending is Ending.COMPLETE:
            return read_judgement(completion.content)
        code, retryable, sentence = _OF_ENDING[completion.ending]
        raise ProviderFailure(code, sentence.format(self._dialect.title), retryable=retryable)

    def _price(self, completion: Completion, call: ProviderCall) -> Usage:
        """Returns the usage with its cost, or an empty one if it is missing or can't be right."""
        names = (completion.model, call.model)
        found = [model for name in names if name and (model := self._catalogue.find(self.name, name))]
        if not found:
            return completion.usage
        model = found[0]
        # No token is shorter than a character.
        most_prompt_tokens = len(call.system_prompt) + len(call.user_prompt)
        most_usd = MOST_TIMES_THE_COST * max(
            each.estimate(most_prompt_tokens, call.max_tokens or each.output_limit_tokens) for each in found
        )
        usage = model.price(completion.usage)
        if usage.cost_usd > most_usd:
            usage = Usage()
        if completion.cost_usd is not None and completion.cost_usd <= most_usd:
            usage = replace(usage, cost_usd=completion.cost_usd)
        return usage

    def _warn_about_usage(self, model: str) -> None:
        if model not in self._models_without_usage:
            self._models_without_usage.add(model)
            _log.warning(
                "provider reports no usable usage, the estimate is charged",
                provider=self.name.value,
                model=model,
            )
