"""Certificates, a user and access rules for the listener that asks for them."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import HANG_SECONDS

STORE_PASSWORD = "changeit"
MECHANISM = "SCRAM-SHA-512"


@dataclass(frozen=True)
class Security:
    """One certificate for all brokers, and a user who may do only what rules allow."""

    store: Path
    ca_file: Path
    username: str = "service"
    password: str = field(default="service-secret", repr=False)

    @classmethod
    def make(cls, folder: Path) -> "Security":
        store, ca_file = folder / "broker.p12", folder / "ca.pem"
        _keytool(
            "-genkeypair", "-alias", "broker", "-keyalg", "EC", "-validity", "2", "-dname", "CN=localhost",
            "-ext", "SAN=IP:127.0.0.1,DNS:localhost", "-ext", "BC=ca:true",
            "-storetype", "PKCS12", "-keystore", str(store), "-storepass", STORE_PASSWORD,
        )  # fmt: skip
        _keytool(
            "-exportcert", "-rfc", "-alias", "broker", "-keystore", str(store),
            "-storepass", STORE_PASSWORD, "-file", str(ca_file),
        )  # fmt: skip
        return cls(store, ca_file)

    def format_options(self) -> list[str]:
        return ["--add-scram", f"{MECHANISM}=[name={self.username},password={self.password}]"]

    def broker_settings(self) -> dict[str, object]:
        """Who comes without credentials, brokers and tests, may do everything; others what a rule allows."""
        return {
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": self.store,
            "ssl.keystore.password": STORE_PASSWORD,
            "sasl.enabled.mechanisms": MECHANISM,
            "listener.name.secure.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }


def _keytool(*arguments: str) -> None:
    subprocess.run(
        ["keytool", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=HANG_SECONDS,
        check=True,
    )
