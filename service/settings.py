"""Every knob of the service: environment variables with the prefix LLM_PROVIDER_SERVICE_, or a .env file."""

import ipaddress
import os
from dataclasses import dataclass, fields
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from platformdirs import user_state_path
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.contracts.enums import LLMProviderType
from service.contracts.kafka_servers import find_wrong_server
from service.contracts.topics import (
    DEAD_LETTER_TOPIC,
    REQUEST_GROUP,
    REQUEST_TOPIC,
    is_legal_topic_name,
    name_journal,
    name_memory,
)
from service.core.errors import ServiceError

PREFIX = "LLM_PROVIDER_SERVICE_"
ALLOWLIST_OF_CALLER = "CALLBACK_TOPIC_ALLOWLIST_"
VENDORS = tuple(provider for provider in LLMProviderType if provider is not LLMProviderType.MOCK)

_VERSION_OF_BASE_URL = {
    "openai_base_url": "",
    "anthropic_base_url": "!/v1",
    "google_base_url": "!/v1beta",
    "openrouter_base_url": "/v1",
}
"""How the path has to end, or after an exclamation mark must not; gateways for OpenAI's protocol differ."""


class SettingsInvalid(ServiceError):
    """A setting has a wrong value; the message names it and never quotes it."""


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


@dataclass(frozen=True, slots=True)
class VendorSettings:
    """What is set for one vendor; its fields' names are the settings', after the vendor's."""

    api_key: SecretStr | None
    base_url: str
    model: str
    rpm: int | None
    tpm: int | None
    max_concurrency: int


class Settings(BaseSettings):
    """The configuration of one service process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    allow_insecure: bool = Field(
        default=False, description="Listen beyond loopback although callers or operators need no token"
    )
    api_tokens: SecretStr | None = Field(
        default=None, description="Callers' tokens, `name:token`, with commas; a name may have several"
    )
    admin_token: SecretStr | None = Field(
        default=None, description="Operators' tokens, with commas; without one their routes are open"
    )

    kafka_bootstrap_servers: str = Field(
        default="localhost:9092", min_length=1, description="host:port of brokers, with commas"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to speak to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How to log in"
    )
    kafka_sasl_username: str | None = Field(default=None, description="User for SASL")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="Password for SASL")
    kafka_ssl_cafile: str | None = Field(
        default=None, description="PEM file of the certificates to trust instead of the system's"
    )
    callback_topic_allowlist: CommaSeparated = Field(
        default=("*",), description="Glob patterns of the topics that callers may name, with commas"
    )

    caller_allowlists: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, exclude=True, description="CALLBACK_TOPIC_ALLOWLIST_<NAME>, by name"
    )

    queue_backend: Literal["sqlite", "kafka"] = Field(
        default="sqlite",
        description="Where requests wait: a file of this process, or topics that replicas share",
    )
    queue_path: Path = Field(
        default_factory=lambda: user_state_path("llm-provider-service") / "queue.db",
        description="The queue's file; its folder is made, for the owner only",
    )
    queue_max_size: int = Field(
        default=10_000, gt=0, description="Requests and undelivered callbacks held before 503"
    )
    request_topic: str = Field(
        default=REQUEST_TOPIC, description="Kafka queue: its topic; `.journal` and `.memory` stand beside it"
    )
    request_group: str = Field(
        default=REQUEST_GROUP,
        min_length=1,
        description="Kafka queue: the consumer group that shares the topic",
    )
    dead_letter_topic: str = Field(
        default=DEAD_LETTER_TOPIC, description="Kafka queue: what cannot be delivered or read"
    )
    usage_topic: str | None = Field(
        default=None,
        description="Topic for events that tell what each request has used; without one there are none",
    )
    replica_name: str | None = Field(
        default=None,
        min_length=1,
        description="Kafka queue: this replica's own name, the same after a restart; else host and port",
    )
    queue_disk_reserve_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, description="Free space below which nothing new is accepted"
    )
    concurrency: int = Field(default=1000, gt=0, le=10_000, description="Provider calls in flight at once")
    max_attempts: int = Field(default=5, gt=0, description="Attempts at one request, counted when claimed")
    default_ttl_seconds: float = Field(
        default=86_400, gt=0, description="Deadline for the start of every attempt where a request has none"
    )
    idempotency_ttl_seconds: float = Field(
        default=86_400, gt=0, description="How long an Idempotency-Key is remembered after the request's end"
    )
    journal_retention_hours: float = Field(
        default=24,
        ge=0,
        le=24 * 366,
        description="How long it is noted what was called back (ids, places), for audits; 0: not at all",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="From which level on is logged; `llmctl log-level` changes it while it runs",
    )
    max_body_bytes: int = Field(default=1_048_576, gt=0, description="Limit on a request's body")
    receive_timeout_seconds: float = Field(
        default=10, gt=0, description="Limit on receiving a whole request, from its first byte"
    )
    max_connections: int = Field(default=4000, gt=0, description="Connections of clients open at once")
    drain_timeout_seconds: float = Field(
        default=300, ge=0, le=86_400, description="Limit on finishing started calls when the service stops"
    )

    max_cost_usd_per_request: float | None = Field(
        default=None, gt=0, description="What all attempts at one request may cost; no limit unless set"
    )
    max_cost_usd_per_day: float | None = Field(
        default=None, gt=0, description="What all calls of a day (UTC) may cost; no limit unless set"
    )

    default_llm_provider: LLMProviderType = Field(
        default=LLMProviderType.OPENAI, description="Who is asked where a request does not say"
    )
    allow_mock_provider: bool = Field(default=False, description="Offer the provider `mock`, for tests")
    provider_timeout_seconds: float = Field(
        default=120, gt=0, description="Limit on one whole call to a provider"
    )
    model_catalogue: Path | None = Field(
        default=None, description="TOML file of models, limits and prices beside the built-in ones"
    )
    openai_api_key: SecretStr | None = Field(default=None, description="Turns the provider openai on")
    openai_base_url: str = Field(
        default="https://api.openai.com/v1", description="As OpenAI's SDK takes it, ending in /v1"
    )
    openai_model: str = Field(default="gpt-4o-mini", min_length=1, description="Where a request names none")
    openai_rpm: int | None = Field(
        default=None, gt=0, description="Requests a minute to OpenAI; no limit unless set"
    )
    openai_tpm: int | None = Field(
        default=None, gt=0, description="Tokens a minute, prompt and answer; no limit unless set"
    )
    openai_max_concurrency: int = Field(
        default=1000, gt=0, description="Connections to OpenAI in use at once"
    )
    anthropic_api_key: SecretStr | None = Field(default=None, description="Turns the provider anthropic on")
    anthropic_base_url: str = Field(
        default="https://api.anthropic.com", description="As Anthropic's SDK takes it, without /v1"
    )
    anthropic_model: str = Field(
        default="claude-haiku-4-5", min_length=1, description="Where a request names none"
    )
    anthropic_rpm: int | None = Field(
        default=None, gt=0, description="Requests a minute to Anthropic; no limit unless set"
    )
    anthropic_tpm: int | None = Field(
        default=None, gt=0, description="Tokens a minute, prompt and answer; no limit unless set"
    )
    anthropic_max_concurrency: int = Field(
        default=1000, gt=0, description="Connections to Anthropic in use at once"
    )
    google_api_key: SecretStr | None = Field(default=None, description="Turns the provider google on")
    google_base_url: str = Field(
        default="https://generativelanguage.googleapis.com",
        description="As Google's SDK takes it, without /v1beta",
    )
    google_model: str = Field(
        default="gemini-3.5-flash-lite", min_length=1, description="Where a request names none"
    )
    google_rpm: int | None = Field(
        default=None, gt=0, description="Requests a minute to Google; no limit unless set"
    )
    google_tpm: int | None = Field(
        default=None, gt=0, description="Tokens a minute, prompt and answer; no limit unless set"
    )
    google_max_concurrency: int = Field(
        default=1000, gt=0, description="Connections to Google in use at once"
    )
    openrouter_api_key: SecretStr | None = Field(default=None, description="Turns the provider openrouter on")
    openrouter_base_url: str = Field(
        default="https://openrouter.ai/api/v1", description="As OpenRouter's SDK takes it, ending in /api/v1"
    )
    openrouter_model: str = Field(
        default="openai/gpt-4o-mini", min_length=1, description="Where a request names none"
    )
    openrouter_rpm: int | None = Field(
        default=None, gt=0, description="Requests a minute to OpenRouter; no limit unless set"
    )
    openrouter_tpm: int | None = Field(
        default=None, gt=0, description="Tokens a minute, prompt and answer; no limit unless set"
    )
    openrouter_max_concurrency: int = Field(
        default=1000, gt=0, description="Connections to OpenRouter in use at once"
    )

    @field_validator("openai_base_url", "anthropic_base_url", "google_base_url", "openrouter_base_url")
    @classmethod
    def _check_base_url(cls, value: str, info: ValidationInfo) -> str:
        example = cls.model_fields[str(info.field_name)].default
        parts = urlsplit(value)
        try:
            strange = parts.query or parts.fragment or parts.username or parts.password or parts.port == 0
        except ValueError:  # a port that is none
            strange = "port"
        if parts.scheme not in {"http", "https"} or not parts.hostname or strange:
            raise ValueError(f"must be an http or https URL without a query or a user, such as {example}")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("must be https: http would send the key in clear text beyond this machine")
        version = _VERSION_OF_BASE_URL[str(info.field_name)]
        ends = parts.path.rstrip("/").endswith(version.removeprefix("!"))
        if version.startswith("!") and ends:
            raise ValueError(f"must be given without {version[1:]}, as the vendor's SDK takes it: {example}")
        if not version.startswith("!") and not ends:
            raise ValueError(f"must end in {version}, such as {example}")
        return value.rstrip("/")

    @field_validator("openai_api_key", "anthropic_api_key", "google_api_key", "openrouter_api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if not all("!" <= character <= "~" for character in value.get_secret_value()):
            raise ValueError("must be printable ASCII without blanks")
        return value

    def of_vendor(self, provider: LLMProviderType) -> "VendorSettings":
        """What is set for one vendor."""
        values = {
            field.name: getattr(self, f"{provider.value}_{field.name}") for field in fields(VendorSettings)
        }
        return VendorSettings(**values)

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _check_servers(cls, value: str) -> str:
        wrong = find_wrong_server(value)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is not a Kafka address; write for example localhost:9092")
        return value

    @field_validator("usage_topic")
    @classmethod
    def _check_usage_topic(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not is_legal_topic_name(value):
            raise ValueError("must be a Kafka topic name: letters, digits, '.', '_' or '-'")
        return value

    @field_validator("request_topic", "dead_letter_topic")
    @classmethod
    def _check_topic(cls, value: str) -> str:
        if not is_legal_topic_name(name_journal(value)):
            raise ValueError("must be a Kafka topic name: letters, digits, '.', '_' or '-'")
        return value

    @model_validator(mode="after")
    def _check_topics_apart(self) -> Self:
        queue = {self.request_topic, name_journal(self.request_topic), name_memory(self.request_topic)}
        if self.usage_topic in {*queue, self.dead_letter_topic}:
            raise ValueError(f"{PREFIX}USAGE_TOPIC names a topic of the Kafka queue; name one of its own")
        return self

    def name_replica(self) -> str | None:
        """What this replica is called in the consumer group; None where it has no name that stays."""
        if self.replica_name is not None:
            return self.replica_name
        return f"{gethostname()}-{self.port}" if self.port else None

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        objection = self.find_exposure(self.host, f"{PREFIX}HOST")
        if objection is not None:
            raise ValueError(objection)
        return self

    def find_exposure(self, address: str, source: str) -> str | None:
        """Why these settings must not listen on an address, which `source` names; None where they may."""
        if _is_loopback(address):
            return None
        authenticated = self.api_tokens is not None and self.admin_token is not None
        if not self.allow_insecure and not authenticated:
            return (
                f"{source} is not a loopback address: set {PREFIX}API_TOKENS and {PREFIX}ADMIN_TOKEN, or "
                f"{PREFIX}ALLOW_INSECURE=true where something in front of it checks callers"
            )
        if "callback_topic_allowlist" not in self.model_fields_set:
            return f"beyond loopback {PREFIX}CALLBACK_TOPIC_ALLOWLIST must be set"
        return None

    @field_validator("api_tokens", "admin_token")
    @classmethod
    def _drop_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        if not _split_commas(value.get_secret_value()):
            raise ValueError("holds no token; unset it, or write one")
        return value

    @model_validator(mode="after")
    def _check_callers(self) -> Self:
        callers = self.tokens_of_callers()
        strangers = sorted(set(self.caller_allowlists) - {_fold_name(name) for name in callers})
        if strangers:
            raise ValueError(
                f"{PREFIX}{ALLOWLIST_OF_CALLER}{strangers[0]} is for a caller that "
                f"{PREFIX}API_TOKENS does not name"
            )
        return self

    def tokens_of_callers(self) -> dict[str, tuple[str, ...]]:
        """The callers by name, each with its tokens. Raises `ValueError` without quoting any."""
        tokens: dict[str, tuple[str, ...]] = {}
        for part in _split_commas(self.api_tokens.get_secret_value() if self.api_tokens else ""):
            name, colon, token = part.partition(":")
            if not colon or not name.strip() or not token.strip():
                raise ValueError(f"{PREFIX}API_TOKENS must be name:token, with commas between")
            tokens[name.strip()] = (*tokens.get(name.strip(), ()), token.strip())
        return tokens

    def tokens_of_operators(self) -> tuple[str, ...]:
        """The operators' tokens."""
        parts: tuple[str, ...] = _split_commas(
            self.admin_token.get_secret_value() if self.admin_token else ""
        )
        return parts

    def allowlist_of(self, caller: str | None) -> tuple[str, ...]:
        """The topics that a caller may name: its own list where it has one."""
        own = None if caller is None else self.caller_allowlists.get(_fold_name(caller))
        return self.callback_topic_allowlist if own is None else own

    @model_validator(mode="after")
    def _check_default_provider(self) -> Self:
        provider = self.default_llm_provider
        if provider is LLMProviderType.MOCK and not self.allow_mock_provider:
            raise ValueError(
                f"{PREFIX}DEFAULT_LLM_PROVIDER is mock, which needs {PREFIX}ALLOW_MOCK_PROVIDER=true"
            )
        if provider in VENDORS and self.of_vendor(provider).api_key is None:
            raise ValueError(
                f"{PREFIX}DEFAULT_LLM_PROVIDER is {provider}, which needs {PREFIX}{provider.upper()}_API_KEY"
            )
        return self


def load_settings() -> Settings:
    """Reads the settings. Raises `SettingsInvalid` with one line that names the first wrong one."""
    try:
        return Settings(caller_allowlists=_read_allowlists_of_callers())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            "The file .env in the working directory cannot be read as UTF-8 text."
        ) from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        problem = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            raise SettingsInvalid(f"Wrong setting: {problem}.") from error
        name = str(fault["loc"][0]).upper()
        raise SettingsInvalid(f"Wrong setting {PREFIX}{name.removeprefix(PREFIX)}: {problem}.") from error


def _read_allowlists_of_callers() -> dict[str, tuple[str, ...]]:
    """The settings whose names hold a caller's name, which no field can declare."""
    start = PREFIX + ALLOWLIST_OF_CALLER
    found = {
        name.upper().removeprefix(start): _split_commas(value)
        for name, value in {**dotenv_values(".env"), **os.environ}.items()
        if name.upper().startswith(start) and value is not None
    }
    return {name: patterns for name, patterns in found.items() if name}


def _fold_name(caller: str) -> str:
    # What can stand in the name of an environment variable.
    return "".join(c if c.isalnum() else "_" for c in caller.upper())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
