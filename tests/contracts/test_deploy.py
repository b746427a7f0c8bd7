"""What `deploy/` hands out holds true: it can be read, names what exists, and waits long enough."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from llmctl.app import app as cli
from service.settings import PREFIX, Settings
from service.web.app import create_app
from service.web.connection import LINGER_SECONDS
from service.web.server import CLOSE_LIMIT_SECONDS, LAST_REQUESTS_LIMIT_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
MANIFEST = DEPLOY / "kubernetes" / "llmctl.yaml"
CLOSING_SECONDS = LAST_REQUESTS_LIMIT_SECONDS + CLOSE_LIMIT_SECONDS + LINGER_SECONDS + 5
"""After the drain: what the web side takes at most, and five seconds for the publisher."""
TOOL_LIMIT_SECONDS = 30


class UnitParser(configparser.RawConfigParser):
    """systemd's files: names keep their case, and a name may come again."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)

    def optionxform(self, optionstr: str) -> str:
        """As it is written."""
        return optionstr


def read_unit(name: str) -> configparser.RawConfigParser:
    """A unit file."""
    unit = UnitParser()
    unit.read_string((DEPLOY / "systemd" / name).read_text())
    return unit


def read_manifest() -> dict[str, dict[str, Any]]:
    """The objects of the manifest, by kind and name, as kubectl itself reads them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "annotate", "--local", "-f", MANIFEST, "read-by=test", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=TOOL_LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    decoder, text, objects = json.JSONDecoder(), done.stdout.strip(), {}
    while text:
        document, end = decoder.raw_decode(text)
        objects[f"{document['kind']}/{document['metadata']['name']}"] = document
        text = text[end:].lstrip()
    return objects


def find_number(pattern: str) -> float:
    """The one number that stands behind a pattern in the manifest, which is read as text: kubectl is rare."""
    found = re.findall(pattern, MANIFEST.read_text(), re.MULTILINE)
    assert len(found) == 1, f"{pattern} stands {len(found)} times in the manifest"
    return float(found[0])


def assert_command(words: list[str]) -> None:
    """Fails unless it is a command of llmctl."""
    assert words[0].rpartition("/")[2] == "llmctl"
    assert words[1] in getattr(typer.main.get_command(cli), "commands")  # noqa: B009 - a group's, not a command's


@pytest.mark.parametrize("path", [*UNITS, MANIFEST, DEPLOY / "README.md"], ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    """No example sets what the service does not know."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}

    assert set(re.findall(rf"\b{PREFIX}[A-Z_]+", path.read_text())) <= known


def test_systemd_waits_longer_than_the_drain_takes() -> None:
    """SIGKILL cannot come while the service keeps its own limits."""
    service = read_unit("llmctl.service")["Service"]
    text = (DEPLOY / "systemd" / "llmctl.service").read_text()
    drain = float(re.findall(rf"{PREFIX}DRAIN_TIMEOUT_SECONDS=(\d+)", text)[0])

    assert float(service["TimeoutStopSec"]) >= drain + CLOSING_SECONDS
    assert (service["KillSignal"], service["SuccessExitStatus"]) == ("SIGTERM", "4")
    assert service["RestartPreventExitStatus"] == "2"
    assert_command(service["ExecStart"].split())


def test_systemd_hands_over_what_the_service_takes() -> None:
    """One listening TCP socket on loopback, accepted by the service itself."""
    unit = read_unit("llmctl.socket")

    assert unit["Socket"]["ListenStream"] == f"127.0.0.1:{Settings.model_fields['port'].default}"
    assert unit["Socket"]["Accept"] == "no"
    assert "llmctl.socket" in read_unit("llmctl.service")["Unit"]["Requires"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_reads_its_units(path: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; the program, which is not installed here, stands in."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/llmctl/bin/llmctl", shutil.which("true") or "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / path.name],
        capture_output=True,
        text=True,
        timeout=TOOL_LIMIT_SECONDS,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "llmctl" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_kubernetes_waits_longer_than_the_drain_takes() -> None:
    """preStop, the drain limit and the closing fit into the grace period, without kubectl to read it."""
    grace = find_number(r"terminationGracePeriodSeconds: (\d+)$")
    drain = find_number(rf'{PREFIX}DRAIN_TIMEOUT_SECONDS\n +value: "(\d+)"$')
    before = find_number(r'command: \["sleep", "(\d+)"\]$')

    assert grace >= before + drain + CLOSING_SECONDS


def test_kubectl_reads_the_manifest() -> None:
    """Four objects that fit together: probes of routes that exist, one volume a pod, nothing as root."""
    objects = read_manifest()
    stateful = objects["StatefulSet/llmctl"]["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    routes = set(re.findall(r'@app\.get\("(/[a-z]+)"', Path(create_app.__code__.co_filename).read_text()))
    environment = {each["name"]: each["value"] for each in container["env"]}
    labels = stateful["template"]["metadata"]["labels"].items()

    assert set(objects) == {
        "Service/llmctl",
        "Service/llmctl-pods",
        "PodDisruptionBudget/llmctl",
        "StatefulSet/llmctl",
    }
    assert stateful["serviceName"] == "llmctl-pods"
    assert probes["readiness"]["path"] == "/readyz"
    assert {probe["path"] for probe in probes.values()} <= routes
    assert {probe["port"] for probe in probes.values()} <= {port["name"] for port in container["ports"]}
    assert environment[f"{PREFIX}PORT"] == str(container["ports"][0]["containerPort"])
    assert_command(container["command"])
    (mount,) = container["volumeMounts"]
    assert [claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]] == [mount["name"]]
    assert environment[f"{PREFIX}QUEUE_PATH"].startswith(f"{mount['mountPath']}/")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for name in ("Service/llmctl", "Service/llmctl-pods"):
        assert objects[name]["spec"]["selector"].items() <= labels
    budget = objects["PodDisruptionBudget/llmctl"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels
    assert budget["maxUnavailable"] < stateful["replicas"]
