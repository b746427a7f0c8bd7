"""How Kafka is reached: one set of options for the producer and for the topic directory."""

import asyncio
import importlib
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from service.core.errors import ServiceError

CLIENT_ID = "llm_provider_service"
BOOTSTRAP_LIMIT_SECONDS = 5.0
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class KafkaMisconfigured(ServiceError):
    """The Kafka settings contradict each other, or a file that they name cannot be used."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how to prove who we are."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    allow_insecure: bool = False
    """Log in over an open connection beyond this machine."""

    def client_options(self) -> dict[str, Any]:
        """The options as aiokafka takes them. Raises `KafkaMisconfigured`."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": CLIENT_ID,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._trust()
        if self.security_protocol.startswith("SASL"):
            if not (self.sasl_mechanism and self.sasl_username and self.sasl_password):
                raise KafkaMisconfigured(
                    "KAFKA_SECURITY_PROTOCOL asks for SASL, so KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and "
                    "KAFKA_SASL_PASSWORD must be set too."
                )
            if self.security_protocol == "SASL_PLAINTEXT" and not (self.allow_insecure or self._is_local()):
                raise KafkaMisconfigured(
                    "KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT: beyond this machine everybody on the way can "
                    "take the login over; set SASL_SSL, or ALLOW_INSECURE=true where the network is your own."
                )
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        elif self.sasl_password:
            raise KafkaMisconfigured(
                "KAFKA_SASL_PASSWORD is set but KAFKA_SECURITY_PROTOCOL is "
                f"{self.security_protocol}; set SASL_SSL, or unset the password."
            )
        return options

    def _is_local(self) -> bool:
        hosts = (server.strip().rpartition(":")[0] for server in self.bootstrap_servers.split(","))
        return all(host.strip("[]") in LOOPBACK_HOSTS for host in hosts)

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ssl_cafile)
        except (OSError, ssl.SSLError) as error:
            raise KafkaMisconfigured(
                f"KAFKA_SSL_CAFILE {self.ssl_cafile} cannot be read as certificates: {error}."
            ) from error


async def bootstrap(start: Coroutine[Any, Any, None]) -> None:
    """Runs an aiokafka client's `start` to its end even where its caller is cancelled meanwhile.

    A bootstrap that is cancelled halfway leaves its connection open, and nobody could close it any more.
    """
    starting = asyncio.ensure_future(start)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=BOOTSTRAP_LIMIT_SECONDS)
        if not starting.cancelled() and starting.done():
            starting.exception()
        raise


def require_compiled_records() -> None:
    """Raises `KafkaMisconfigured` where aiokafka lacks its C extension: 180 times slower a record."""
    try:
        importlib.import_module("aiokafka.record._crecords")
    except ImportError as error:
        raise KafkaMisconfigured(
            "aiokafka is installed without its compiled record builder; reinstall it from a wheel."
        ) from error
