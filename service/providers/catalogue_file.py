"""A TOML file of models, for prices that changed and models that came after the built-in catalogue.

    [anthropic."claude-haiku-6"]
    context_window_tokens = 1_000_000
    output_limit_tokens = 128_000
    max_temperature = 1.0                  # leave it out where the model accepts none
    prompt_usd_per_million = 0.10
    cached_prompt_usd_per_million = 0.01
    completion_usd_per_million = 0.50
    prices_read_on = 2026-11-24
    source = "https://platform.claude.com/docs/en/about-claude/pricing"

    [anthropic."claude-haiku-6".long_prompt]
    above_tokens = 100_000
    prompt_usd_per_million = 0.50
    cached_prompt_usd_per_million = 0.05
    completion_usd_per_million = 2.50

A table replaces the model of its name as a whole, so that no old figure stays beside a new one.
"""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from service.contracts.enums import LLMProviderType
from service.core.errors import ServiceError
from service.providers.catalogue import LongPrompt, Model

_PROVIDERS: Final = {
    provider.value: provider for provider in LLMProviderType if provider is not LLMProviderType.MOCK
}


class CatalogueInvalid(ServiceError):
    """The file of models cannot be used; the message names the file, the table and the key."""


def read_models(path: Path) -> list[Model]:
    """The models of a file. Raises `CatalogueInvalid` with one sentence about the first fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueInvalid(f"The file {path} cannot be read as UTF-8 text.") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogueInvalid(f"The file {path} is no TOML: {error}.") from error
    return list(_walk(path, document))


def _walk(path: Path, document: Mapping[str, Any]) -> Iterator[Model]:
    for name, models in document.items():
        provider = _PROVIDERS.get(name)
        if provider is None:
            known = ", ".join(_PROVIDERS)
            raise CatalogueInvalid(f"{path}, table [{name}]: there is no such provider; there are {known}.")
        for model, values in _Table(path, f"[{name}]", models).entries():
            yield _read_model(provider, model, _Table(path, f'[{name}."{model}"]', values))


def _read_model(provider: LLMProviderType, name: str, table: "_Table") -> Model:
    model = Model(
        name=name,
        provider=provider,
        context_window_tokens=table.take("context_window_tokens", _COUNT),
        output_limit_tokens=table.take("output_limit_tokens", _COUNT),
        prompt_usd_per_million=table.take("prompt_usd_per_million", _PRICE),
        cached_prompt_usd_per_million=table.take("cached_prompt_usd_per_million", _PRICE),
        completion_usd_per_million=table.take("completion_usd_per_million", _PRICE),
        prices_read_on=table.take("prices_read_on", _DAY),
        source=table.take("source", _TEXT),
        max_temperature=table.take("max_temperature", _PRICE, optional=True),
        long_prompt=_read_long_prompt(table.below("long_prompt")),
    )
    table.finish()
    return model


def _read_long_prompt(table: "_Table | None") -> LongPrompt | None:
    if table is None:
        return None
    long_prompt = LongPrompt(
        above_tokens=table.take("above_tokens", _COUNT),
        prompt_usd_per_million=table.take("prompt_usd_per_million", _PRICE),
        cached_prompt_usd_per_million=table.take("cached_prompt_usd_per_million", _PRICE),
        completion_usd_per_million=table.take("completion_usd_per_million", _PRICE),
    )
    table.finish()
    return long_prompt


_Kind = tuple[str, Callable[[Any], bool]]
"""What a value has to be, in words and as a check."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_COUNT: Final[_Kind] = (
    "a whole number above 0",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
)
_PRICE: Final[_Kind] = ("a number of at least 0", lambda value: _is_number(value) and value >= 0)
_DAY: Final[_Kind] = (
    "a date such as 2026-11-24",
    lambda value: isinstance(value, date) and not isinstance(value, datetime),
)
_TEXT: Final[_Kind] = ("a text", lambda value: isinstance(value, str))


class _Table:
    """One table of the file; knows its name, and what of it was not taken."""

    def __init__(self, path: Path, name: str, values: Any) -> None:
        self._path = path
        self._name = name
        if not isinstance(values, dict):
            raise self._fault("it must be a table")
        self._values = dict(values)

    def take(self, key: str, kind: _Kind, *, optional: bool = False) -> Any:
        """Takes a value out of the table, where it is of its kind."""
        words, is_right = kind
        if key not in self._values:
            if optional:
                return None
            raise self._fault(f"key {key} is missing; it must be {words}")
        value = self._values.pop(key)
        if not is_right(value):
            raise self._fault(f"key {key} must be {words}")
        return value

    def below(self, key: str) -> "_Table | None":
        """Takes a table out of the table."""
        if key not in self._values:
            return None
        return _Table(self._path, f"{self._name[:-1]}.{key}]", self._values.pop(key))

    def entries(self) -> Iterator[tuple[str, Any]]:
        """What is in it, by key."""
        yield from self._values.items()

    def finish(self) -> None:
        """Raises where something is left that nobody has taken."""
        if self._values:
            raise self._fault(f"key {min(self._values)} is not known; leave it out")

    def _fault(self, problem: str) -> CatalogueInvalid:
        return CatalogueInvalid(f"{self._path}, table {self._name}: {problem}.")
