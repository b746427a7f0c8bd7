"""Which service and which Kafka a command talks to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from llmctl.contexts import PRODUCTION
from llmctl.exits import UsageProblem
from llmctl.masking import mask_url
from service.contracts.kafka_servers import find_wrong_server
from simulator.kafka_address import KafkaAddress

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_BOOTSTRAP_SERVERS = "127.0.0.1:9092"

_SWITCH = {"true": True, "false": False}


@dataclass(frozen=True)
class Target:
    """What options, variables or the context said; None where nothing did."""

    chosen_url: str | None = None
    chosen_bootstrap_servers: str | None = None
    token: str | None = field(default=None, repr=False)
    context: str | None = None
    """The name of the context that is meant, where one is."""
    environment: str | None = None
    """What the context says it is, for example `prod`."""
    kafka_settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    """How Kafka is logged in to, by the keys of a context."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where a value came from, in words, by the name of its option."""

    def override(
        self, *, url: str | None = None, bootstrap_servers: str | None = None, token: str | None = None
    ) -> Target:
        """The same target with what a command's own options say instead."""
        own = {"url": url, "bootstrap_servers": bootstrap_servers, "token": token}
        return replace(
            self,
            origins={**self.origins, **{name: "option" for name, value in own.items() if value}},
            chosen_url=url or self.chosen_url,
            chosen_bootstrap_servers=bootstrap_servers or self.chosen_bootstrap_servers,
            token=token or self.token,
        )

    @property
    def url(self) -> str:
        """The service's base URL without a closing slash; UsageProblem where it is none."""
        url = self.chosen_url or DEFAULT_URL
        try:
            parts = urlsplit(url)
            legal = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            legal = False
        if not legal or parts.query or parts.fragment:
            raise UsageProblem(
                f"{mask_url(url)!r}{self._say_origin('url')} is no URL of a service; "
                f"write for example {DEFAULT_URL}."
            )
        return url.rstrip("/")

    @property
    def bearer_token(self) -> str | None:
        """The token as it can stand in a header; UsageProblem where it cannot."""
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise UsageProblem(
                f"The token{self._say_origin('token')} holds characters that no header can carry; "
                "check --token."
            )
        return self.token

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's addresses, `host:port` with commas; UsageProblem where they are none."""
        servers = self.chosen_bootstrap_servers or DEFAULT_BOOTSTRAP_SERVERS
        wrong = find_wrong_server(servers)
        if wrong is not None:
            raise UsageProblem(
                f"{wrong!r}{self._say_origin('bootstrap_servers')} is no Kafka address; "
                f"write for example {DEFAULT_BOOTSTRAP_SERVERS}."
            )
        return servers

    @property
    def kafka(self) -> KafkaAddress:
        """Kafka as a client reaches it; UsageProblem where what is said of it makes no sense."""
        said = dict(self.kafka_settings)
        if self._is_spoken("bootstrap_servers"):
            # The password of a context is for the Kafka of that context, not for another that was named.
            said = {name: value for name, value in said.items() if self._is_spoken(name)}
        insecure = said.pop("kafka_allow_insecure", "false").casefold()
        if insecure not in _SWITCH:
            raise UsageProblem(f"kafka_allow_insecure must be true or false, not {insecure!r}.")
        options = {name.removeprefix("kafka_"): value for name, value in said.items()}
        try:
            return KafkaAddress(self.bootstrap_servers, **options, allow_insecure=_SWITCH[insecure])
        except ValueError as problem:
            origin = self._say_origin(next(iter(said), ""))
            raise UsageProblem(f"{problem}{origin}.") from None

    @property
    def is_production(self) -> bool:
        """Whether the context says that others depend on it."""
        return (self.environment or "").strip().casefold() in PRODUCTION

    def _is_spoken(self, name: str) -> bool:
        origin = self.origins.get(name, "default")
        return origin == "option" or origin.startswith("environment")

    def _say_origin(self, name: str) -> str:
        origin = self.origins.get(name, "option")
        return "" if origin == "option" else f" ({origin})"
