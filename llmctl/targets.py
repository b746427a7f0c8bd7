"""Which service and which Kafka a command talks to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from llmctl.contexts import PRODUCTION
from llmctl.exits import UsageProblem

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_BOOTSTRAP_SERVERS = "127.0.0.1:9092"

_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True)
class Target:
    """What options, variables or the context said; None where nothing did."""

    chosen_url: str | None = None
    chosen_bootstrap_servers: str | None = None
    token: str | None = field(default=None, repr=False)
    environment: str | None = None
    """What the context says it is, for example `prod`."""
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
                f"{url!r}{self._say_origin('url')} is no URL of a service; write for example {DEFAULT_URL}."
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
        for server in servers.split(","):
            found = _SERVER.fullmatch(server.strip())
            if found is None or not 0 < int(found[1] or 9092) < 65536:
                raise UsageProblem(
                    f"{server!r}{self._say_origin('bootstrap_servers')} is no Kafka address; "
                    f"write for example {DEFAULT_BOOTSTRAP_SERVERS}."
                )
        return servers

    @property
    def is_production(self) -> bool:
        """Whether the context says that others depend on it."""
        return (self.environment or "").strip().casefold() in PRODUCTION

    def _say_origin(self, name: str) -> str:
        origin = self.origins.get(name, "option")
        return "" if origin == "option" else f" ({origin})"
