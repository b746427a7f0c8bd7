"""Apache Kafka's own classes, from the Maven artifacts that `pom.xml` names, on the JDK that is here."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
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
    """Returns the folder of the jar files; the first time, Maven downloads them, about 60 MB.

    Raises `KafkaMissing`.
    """
    for program, package in (("java", "a JDK, 17 or newer"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            raise KafkaMissing(f"Apache Kafka needs {package}, and there is no `{program}` on the PATH.")

    def command(folder: Path) -> list[str]:
        return [
            "mvn",
            "-q",
            "-B",
            "-f",
            str(POM),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={folder}",
        ]

    return download_once("apache-kafka", [POM], command, KafkaMissing)


def download_once(
    name: str, manifest: Sequence[Path], command: Callable[[Path], list[str]], missing: type[Exception]
) -> Path:
    """Returns the cached folder of what a manifest lists; the first time, `command` fills it.

    `command` gets the folder, which it runs in and which holds a copy of the manifest. Raises `missing`.
    """
    digest = hashlib.blake2b(b"".join(path.read_bytes() for path in manifest), digest_size=8).hexdigest()
    cache = Path(os.environ.get("LLMCTL_TEST_CACHE") or platformdirs.user_cache_path("llmctl-tests"))
    folder = cache / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Complete or not at all: another run may be looking, and this one may be interrupted.
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        for path in manifest:
            shutil.copy(path, fresh)
        words = command(fresh)
        try:
            done = subprocess.run(
                words,
                cwd=fresh,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise missing(f"{words[0]} did not end within {HANG_SECONDS:g} s; is there a network?") from None
        if done.returncode != 0:
            output = (done.stdout + done.stderr).splitlines()
            reason = next((line for line in output if "error" in line.lower()), "it prints no error")
            raise missing(f"{words[0]} cannot download {name}: {reason}")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster
                raise
    return folder


def java(classes: Path, main_class: str, *arguments: str) -> list[str]:
    return ["java", *JVM_OPTIONS, "-cp", str(classes / "*"), main_class, *arguments]
