"""Apache Kafka's own classes, from the Maven artifacts that `pom.xml` names, on the JDK that is here."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from tests.waiting import HANG_SECONDS

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # Two cores are shared with what is tested: the compiler that starts quickly is the one that pays here.
    "-XX:TieredStopAtLevel=1",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
)


class KafkaMissing(Exception):
    """Apache Kafka cannot be had on this machine; the text says what is missing."""


def resolve_classes() -> Path:
    """The folder of the jar files; the first time, Maven brings them, about 60 MB.

    Raises `KafkaMissing`.
    """
    for program, package in (("java", "a JDK, 17 or newer"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            raise KafkaMissing(f"Apache Kafka needs {package}, and there is no `{program}` on the PATH.")
    wanted = hashlib.blake2b(POM.read_bytes(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("LLMCTL_TEST_CACHE") or platformdirs.user_cache_path("llmctl-tests"))
    folder = cache / f"apache-kafka-{wanted}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _download(folder)
    return folder


def _download(folder: Path) -> None:
    # Whole or not at all: another run may be looking, and this one may be cut off.
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        fresh = Path(name) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(POM)]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KafkaMissing(
                f"Maven did not bring Apache Kafka within {HANG_SECONDS} s; is there a network?"
            ) from None
        if done.returncode != 0:
            raise KafkaMissing(f"Maven cannot bring Apache Kafka: {_first_error(done.stdout)}")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster
                raise


def _first_error(output: str) -> str:
    return next((line for line in output.splitlines() if "ERROR" in line), "it does not say why")


def java(classes: Path, main_class: str, *arguments: str) -> list[str]:
    """The command line that runs one of its classes."""
    return ["java", *JVM_OPTIONS, "-cp", str(classes / "*"), main_class, *arguments]
