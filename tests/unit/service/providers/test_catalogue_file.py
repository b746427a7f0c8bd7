"""Models, limits and prices from a file of the operator's."""

from datetime import date
from pathlib import Path

import pytest

from service.contracts.enums import LLMProviderType
from service.core.outcome import Usage
from service.providers.catalogue import CATALOGUE
from service.providers.catalogue_file import CatalogueInvalid, read_models

GOOD = """\
[anthropic."claude-next"]
context_window_tokens = 1_000_000
output_limit_tokens = 128_000
prompt_usd_per_million = 0.10
cached_prompt_usd_per_million = 0.01
completion_usd_per_million = 1
prices_read_on = 2026-11-24
source = "an invoice"

[anthropic."claude-next".long_prompt]
above_tokens = 100
prompt_usd_per_million = 1.0
cached_prompt_usd_per_million = 0.1
completion_usd_per_million = 10.0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text)
    return path


def test_model_of_a_file_is_found_and_priced(tmp_path: Path) -> None:
    catalogue = CATALOGUE.extend(read_models(write(tmp_path, GOOD)))
    model = catalogue.find(LLMProviderType.ANTHROPIC, "claude-next")
    assert model is not None
    assert (model.prices_read_on, model.source) == (date(2026, 11, 24), "an invoice")
    assert not model.accepts_temperature
    assert model.price(Usage(100, 100)).cost_usd == pytest.approx(110e-6)
    assert model.price(Usage(101, 100, cached_tokens=1)).cost_usd == pytest.approx(1100.1e-6)
    assert catalogue.find(LLMProviderType.OPENAI, "gpt-4o") is not None
    assert CATALOGUE.find(LLMProviderType.ANTHROPIC, "claude-next") is None


def test_file_replaces_a_model_as_a_whole(tmp_path: Path) -> None:
    text = GOOD.split("\n\n", maxsplit=1)[0].replace("claude-next", "claude-haiku-4-5")
    catalogue = CATALOGUE.extend(read_models(write(tmp_path, text)))
    model = catalogue.find(LLMProviderType.ANTHROPIC, "claude-haiku-4-5-20251001")
    assert model is not None
    assert (model.prompt_usd_per_million, model.max_temperature) == (0.10, None)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "output_limit_tokens = 128_000\n",
            "",
            "key output_limit_tokens is missing; it must be a whole number above 0",
        ),
        ("= 128_000", "= 0", "key output_limit_tokens must be a whole number above 0"),
        ("= 128_000", "= true", "key output_limit_tokens must be a whole number above 0"),
        ("= 0.10", "= -1", "key prompt_usd_per_million must be a number of at least 0"),
        ("= 0.10", "= nan", "key prompt_usd_per_million must be a number of at least 0"),
        ("= 0.10", '= "0.10"', "key prompt_usd_per_million must be a number of at least 0"),
        ("= 2026-11-24", '= "today"', "key prices_read_on must be a date such as 2026-11-24"),
        ("= 2026-11-24", "= 2026-11-24T00:00:00Z", "key prices_read_on must be a date such as 2026-11-24"),
        ("source", "sauce", "key source is missing; it must be a text"),
        ("source =", "max_temp = 1\nsource =", "key max_temp is not known; leave it out"),
    ],
)
def test_wrong_value_is_reported_with_file_table_and_key(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(CatalogueInvalid) as caught:
        read_models(path)
    assert str(caught.value) == f'{path}, table [anthropic."claude-next"]: {sentence}.'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[antropic.x]\n", "table [antropic]: there is no such provider; there are openai, anthropic,"),
        ("[mock.x]\n", "table [mock]: there is no such provider"),
        ("anthropic = 1\n", "table [anthropic]: it must be a table"),
        ("[anthropic]\nx = 1\n", 'table [anthropic."x"]: it must be a table'),
        ("[anthropic\n", "is no TOML"),
        (
            GOOD.replace("above_tokens = 100\n", ""),
            '[anthropic."claude-next".long_prompt]: key above_tokens is',
        ),
        (GOOD + "x = 1\n", '[anthropic."claude-next".long_prompt]: key x is not known'),
    ],
)
def test_wrong_shape_is_reported(text: str, part: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CatalogueInvalid) as caught:
        read_models(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path / "binary"):
        with pytest.raises(CatalogueInvalid, match="cannot be read as UTF-8 text") as caught:
            read_models(path)
        assert str(path) in str(caught.value)
