"""Each vendor's settings: what is refused at the start, and what comes of those that are right."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.contracts.enums import LLMProviderType
from service.settings import PREFIX, VENDORS, SettingsInvalid, load_settings
from service.wiring import build

Start = Callable[..., str | None]
KEY = "sk-canary-7f3a91"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a queue of its own and the mock, so that no vendor is needed."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "QUEUE_PATH": str(tmp_path / "queue.db"),
        "ALLOW_MOCK_PROVIDER": "true",
        "DEFAULT_LLM_PROVIDER": "mock",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts with these settings; returns the message that stops it, or None."""

    def start(**settings: str) -> str | None:
        for name, value in settings.items():
            monkeypatch.setenv(PREFIX + name, value)
        try:
            build(load_settings())
        except SettingsInvalid as error:
            return str(error)
        return None

    return start


@pytest.mark.parametrize("vendor", [vendor.value.upper() for vendor in VENDORS])
@pytest.mark.parametrize(
    ("setting", "value", "part"),
    [
        ("API_KEY", "sk canary", "must be printable ASCII without blanks"),
        ("API_KEY", "sk-canary\x7f", "must be printable ASCII without blanks"),
        ("API_KEY", "schlüssel-canary", "must be printable ASCII without blanks"),
        ("BASE_URL", "http://api.example.com/api/v1", "must be https"),
        ("BASE_URL", "api.example.com/api/v1", "must be an http or https URL"),
        ("BASE_URL", "https://u:canary@api.example.com/api/v1", "must be an http or https URL"),
        ("BASE_URL", "https://api.example.com/api/v1?key=canary", "must be an http or https URL"),
        ("BASE_URL", "https://api.example.com:99999/api/v1", "must be an http or https URL"),
        ("MODEL", "none-such", "has no usable model 'none-such'"),
        ("RPM", "0", "greater than 0"),
        ("TPM", "-1", "greater than 0"),
        ("MAX_CONCURRENCY", "0", "greater than 0"),
    ],
)
def test_wrong_setting_stops_the_start(
    start: Start, vendor: str, setting: str, value: str, part: str
) -> None:
    sentence = start(**{f"{vendor}_API_KEY": KEY, f"{vendor}_{setting}": value})
    assert sentence is not None
    assert sentence.startswith(f"Wrong setting {PREFIX}{vendor}_{setting}: ")
    assert part in sentence
    assert "canary" not in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("setting", "value", "part"),
    [
        ("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1/", "given without /v1,"),
        ("GOOGLE_BASE_URL", "https://generativelanguage.googleapis.com/v1beta", "given without /v1beta"),
        ("OPENROUTER_BASE_URL", "https://openrouter.ai/api", "must end in /v1"),
    ],
)
def test_base_url_with_a_wrong_version_is_refused(start: Start, setting: str, value: str, part: str) -> None:
    assert part in (start(**{setting: value}) or "")


@pytest.mark.parametrize("vendor", VENDORS)
def test_default_provider_needs_its_key(start: Start, vendor: LLMProviderType) -> None:
    missing = start(DEFAULT_LLM_PROVIDER=vendor.value)
    assert missing is not None
    assert f"DEFAULT_LLM_PROVIDER is {vendor}, which needs {PREFIX}{vendor.upper()}_API_KEY" in missing
    assert start(**{f"{vendor.value.upper()}_API_KEY": KEY}) is None


def test_all_vendors_are_offered_with_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in VENDORS:
        monkeypatch.setenv(f"{PREFIX}{vendor.value.upper()}_API_KEY", KEY)
    monkeypatch.setenv(PREFIX + "GOOGLE_RPM", "60")
    settings = load_settings()
    service = build(settings)
    assert {provider.name for provider in service.providers} == {*VENDORS, LLMProviderType.MOCK}
    for provider in service.providers:
        assert provider.find_objection(provider.default_model, None) is None
        assert KEY not in repr(provider)
    assert settings.of_vendor(LLMProviderType.GOOGLE).rpm == 60
    assert settings.of_vendor(LLMProviderType.OPENAI).rpm is None
    assert KEY not in repr(settings) + str(settings) + repr(settings.of_vendor(LLMProviderType.GOOGLE))
    assert KEY not in settings.model_dump_json()


def test_wrong_model_catalogue_is_refused(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[google."x"]\nprices = 1\n')
    sentence = start(MODEL_CATALOGUE=str(path))
    assert sentence is not None
    assert sentence.startswith(f'Wrong setting {PREFIX}MODEL_CATALOGUE: {path}, table [google."x"]: key ')


def test_model_of_a_file_can_be_the_default(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[google."gemini-next"]\ncontext_window_tokens = 9\noutput_limit_tokens = 8\n'
        "prompt_usd_per_million = 1\ncached_prompt_usd_per_million = 1\ncompletion_usd_per_million = 1\n"
        'prices_read_on = 2026-11-24\nsource = "x"\n'
    )
    wanted = {"GOOGLE_API_KEY": KEY, "GOOGLE_MODEL": "gemini-next"}
    assert start(**wanted) is not None
    assert start(MODEL_CATALOGUE=str(path)) is None
