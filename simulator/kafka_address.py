"""Where a Kafka is and how to log in, as both client libraries take it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SECURITY_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class KafkaAddress:
    """A cluster as a client reaches it; as text it is its servers.

    Raises `ValueError`, with a sentence that names the setting, where the parts contradict each other.
    """

    servers: str
    """`host:port` with commas."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    """PEM file of the certificates to trust instead of the system's."""
    allow_insecure: bool = False
    """Log in over an open connection beyond this machine."""

    def __post_init__(self) -> None:
        if self.security_protocol not in SECURITY_PROTOCOLS:
            raise ValueError(f"kafka_security_protocol must be one of {', '.join(SECURITY_PROTOCOLS)}")
        if self.sasl_mechanism is not None and self.sasl_mechanism not in SASL_MECHANISMS:
            raise ValueError(f"kafka_sasl_mechanism must be one of {', '.join(SASL_MECHANISMS)}")
        if not self.logs_in:
            if self.sasl_password is not None:
                raise ValueError(
                    f"kafka_sasl_password is set, and kafka_security_protocol is {self.security_protocol}; "
                    "say SASL_SSL, or take the password away"
                )
        elif not (self.sasl_mechanism and self.sasl_username and self.sasl_password):
            raise ValueError(
                f"kafka_security_protocol is {self.security_protocol}, so kafka_sasl_mechanism, "
                "kafka_sasl_username and kafka_sasl_password must be set too"
            )
        elif not (self.is_encrypted or self.allow_insecure or self._is_local()):
            raise ValueError(
                "kafka_security_protocol is SASL_PLAINTEXT: beyond this machine everybody on the way can "
                "take the login over; say SASL_SSL, or kafka_allow_insecure where the network is your own"
            )

    def __str__(self) -> str:
        return self.servers

    @property
    def is_encrypted(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.security_protocol.endswith("SSL")

    @property
    def logs_in(self) -> bool:
        """Whether whoever comes says who it is."""
        return self.security_protocol.startswith("SASL")

    def for_aiokafka(self) -> dict[str, Any]:
        """The options of its clients. Raises `ValueError` where the file of certificates cannot be used."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security_protocol,
        }
        if self.is_encrypted:
            import ssl  # rarely needed, and this module is imported for `--help`, too

            try:
                options["ssl_context"] = ssl.create_default_context(cafile=self.ssl_cafile)
            except OSError as error:
                raise ValueError(
                    f"kafka_ssl_cafile {self.ssl_cafile} cannot be read as certificates: {error}"
                ) from error
        if self.logs_in:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def for_librdkafka(self) -> dict[str, Any]:
        """The options of its clients."""
        options: dict[str, Any] = {"bootstrap.servers": self.servers}
        if self.security_protocol != "PLAINTEXT":
            options["security.protocol"] = self.security_protocol
        if self.is_encrypted:
            # Without a file the wheel's own TLS looks where distributions keep their certificates.
            options["ssl.ca.location"] = self.ssl_cafile or "probe"
        if self.logs_in:
            options["sasl.mechanism"] = self.sasl_mechanism
            options["sasl.username"] = self.sasl_username
            options["sasl.password"] = self.sasl_password
        return options

    def for_service(self) -> dict[str, str]:
        """The settings of a service that is to use it, without their prefix."""
        allowed = {"ALLOW_INSECURE": "true"} if self.allow_insecure else {}
        return {**self._name_parts(), **allowed}

    def for_llmctl(self) -> dict[str, str]:
        """The variables of a command that is to use it."""
        allowed = {"KAFKA_ALLOW_INSECURE": "true"} if self.allow_insecure else {}
        named = {**self._name_parts(), **allowed}
        servers = named.pop("KAFKA_BOOTSTRAP_SERVERS")
        return {f"LLMCTL_{name}": value for name, value in (named | {"BOOTSTRAP_SERVERS": servers}).items()}

    def _name_parts(self) -> dict[str, str]:
        parts = {
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "KAFKA_SECURITY_PROTOCOL": self.security_protocol,
            "KAFKA_SASL_MECHANISM": self.sasl_mechanism,
            "KAFKA_SASL_USERNAME": self.sasl_username,
            "KAFKA_SASL_PASSWORD": self.sasl_password,
            # Who is told may stand in another folder than we do.
            "KAFKA_SSL_CAFILE": str(Path(self.ssl_cafile).absolute()) if self.ssl_cafile else None,
        }
        return {name: value for name, value in parts.items() if value is not None}

    def _is_local(self) -> bool:
        hosts = (server.strip().rpartition(":")[0] for server in self.servers.split(","))
        return all(host.strip("[]") in LOOPBACK_HOSTS for host in hosts)
