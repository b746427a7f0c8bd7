"""The manifests: valid, restricted, with settings that start and waits that fit into each other."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings, load_settings
from service.web.app import create_app
from tests.contracts.deploying import CLOSING_SECONDS, DEPLOY, name_image

KUBERNETES = DEPLOY / "kubernetes"
BOTH = ["sqlite.yaml", "kafka.yaml"]
DRAIN_COMMAND_GRACE_SECONDS = 5
"""How much longer than its limit `llmctl drain` waits for the service to say that it has passed."""
OLDEST_KUBERNETES = "1.30"
SECRETS = {
    f"{PREFIX}API_TOKENS": "caller:token",
    f"{PREFIX}ADMIN_TOKEN": "token",
    f"{PREFIX}OPENAI_API_KEY": "key",
}
"""What the Secret holds, whose values are nobody's."""

Object = dict[str, Any]


def read(name: str) -> dict[str, Object]:
    documents = yaml.safe_load_all((KUBERNETES / name).read_text())
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in documents}


def read_pod(name: str) -> Object:
    pod: Object = read(name)["StatefulSet/llmctl"]["spec"]["template"]["spec"]
    return pod


def read_container(name: str) -> Object:
    (container,) = read_pod(name)["containers"]
    found: Object = container
    return found


def list_pods(name: str) -> list[Object]:
    objects = read(name).values()
    return [each["spec"]["template"]["spec"] for each in objects if "template" in each.get("spec", {})]


@pytest.mark.parametrize("path", sorted(KUBERNETES.iterdir()), ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kubernetes_takes_every_object(path: Path) -> None:
    """By the schemas of the oldest version that we support and of the newest that is known."""
    try:
        schemas = import_module("kubernetes_validate")
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("kubernetes-validate is not installed; PyPI has it")
    for version in (OLDEST_KUBERNETES, schemas.latest_version()):
        for each in yaml.safe_load_all(path.read_text()):
            if each["apiVersion"].startswith("keda.sh/"):
                continue  # a resource of its own, which no schema of Kubernetes knows
            schemas.validate(each, version, strict=True)


@pytest.mark.parametrize("name", BOTH)
def test_the_objects_fit_together(name: str) -> None:
    objects = read(name)
    stateful = objects["StatefulSet/llmctl"]["spec"]
    labels = stateful["template"]["metadata"]["labels"].items()
    budget = objects["PodDisruptionBudget/llmctl"]["spec"]
    sources = [source for each in read_container(name)["envFrom"] for source in each.items()]

    assert stateful["selector"]["matchLabels"].items() <= labels
    assert stateful["serviceName"] == "llmctl-pods"
    assert objects["Service/llmctl-pods"]["spec"]["clusterIP"] == "None"
    for service in ("Service/llmctl", "Service/llmctl-pods"):
        assert objects[service]["spec"]["selector"].items() <= labels
        assert objects[service]["spec"]["ports"][0]["targetPort"] == read_container(name)["ports"][0]["name"]
    assert budget["selector"]["matchLabels"].items() <= labels
    assert budget["maxUnavailable"] < stateful["replicas"]
    assert sources == [("configMapRef", {"name": "llmctl"}), ("secretRef", {"name": "llmctl"})]
    assert "ConfigMap/llmctl" in objects
    assert set(re.findall(r"image: (\S+)", (KUBERNETES / name).read_text())) == {name_image()}


@pytest.mark.parametrize("name", BOTH)
def test_no_secret_has_a_value(name: str) -> None:
    objects = read(name)

    assert not [each for each in objects if each.startswith("Secret/")]
    assert not [each for each in objects["ConfigMap/llmctl"]["data"] if re.search("TOKEN|KEY|PASSWORD", each)]
    text = (KUBERNETES / name).read_text()
    assert all(secret.removeprefix(PREFIX.rstrip("_")) in text for secret in SECRETS)


@pytest.mark.parametrize("name", BOTH)
def test_the_service_starts_with_these_settings(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = read_settings(name, monkeypatch, tmp_path)

    assert (settings.host, settings.port) == ("0.0.0.0", read_container(name)["ports"][0]["containerPort"])
    assert settings.queue_backend == name.removesuffix(".yaml")
    if settings.queue_backend == "kafka":
        # Static membership needs a name that is unique and comes back with the pod.
        assert settings.replica_name == "llmctl-0"
        assert "Deployment/llmctl" not in read(name)


def read_settings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.chdir(tmp_path)
    told = {**read(name)["ConfigMap/llmctl"]["data"], **SECRETS}
    for each in read_container(name).get("env", []):
        assert each["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        told[each["name"]] = "llmctl-0"
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    return load_settings()


@pytest.mark.parametrize("name", BOTH)
def test_probes_ask_routes_that_exist(name: str) -> None:
    container = read_container(name)
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    routes = set(re.findall(r'@app\.get\("(/[a-z]+)"', Path(create_app.__code__.co_filename).read_text()))

    assert probes["readiness"]["path"] == "/readyz"
    assert probes["startup"]["path"] == probes["liveness"]["path"] == "/healthz"
    assert {probe["path"] for probe in probes.values()} <= routes
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}


@pytest.mark.parametrize("name", BOTH)
def test_every_pod_is_restricted(name: str) -> None:
    for pod in list_pods(name):
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & set(pod)
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert confined["readOnlyRootFilesystem"] is True
            assert "memory" in container["resources"]["limits"]
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_a_pod_with_a_file_has_a_volume_for_it() -> None:
    stateful = read("sqlite.yaml")["StatefulSet/llmctl"]["spec"]
    (mount,) = read_container("sqlite.yaml")["volumeMounts"]
    (claim,) = stateful["volumeClaimTemplates"]
    path = read("sqlite.yaml")["ConfigMap/llmctl"]["data"][f"{PREFIX}QUEUE_PATH"]

    assert claim["metadata"]["name"] == mount["name"]
    assert path.startswith(f"{mount['mountPath']}/")
    assert read_pod("sqlite.yaml")["securityContext"]["fsGroup"] == 10001


def test_with_a_file_kubernetes_waits_longer_than_the_drain_takes() -> None:
    grace = read_pod("sqlite.yaml")["terminationGracePeriodSeconds"]
    drain = float(read("sqlite.yaml")["ConfigMap/llmctl"]["data"][f"{PREFIX}DRAIN_TIMEOUT_SECONDS"])
    program, before = read_container("sqlite.yaml")["lifecycle"]["preStop"]["exec"]["command"]

    assert program == "sleep"
    assert grace >= float(before) + drain + CLOSING_SECONDS


def test_with_kafka_kubernetes_waits_longer_than_both_drains_take() -> None:
    """The drain that preStop orders and the one on SIGTERM, each with its whole limit."""
    grace = read_pod("kafka.yaml")["terminationGracePeriodSeconds"]
    drain = float(read("kafka.yaml")["ConfigMap/llmctl"]["data"][f"{PREFIX}DRAIN_TIMEOUT_SECONDS"])
    script = read_container("kafka.yaml")["lifecycle"]["preStop"]["exec"]["command"][-1]
    found = re.fullmatch(r"sleep (\d+); exec llmctl drain --yes --timeout (\d+)s", script)

    assert found is not None
    asleep, ordered = map(float, found.groups())
    assert grace >= asleep + ordered + DRAIN_COMMAND_GRACE_SECONDS + drain + CLOSING_SECONDS


def test_the_autoscaler_watches_the_queue_that_is_used() -> None:
    objects = read("kafka.yaml")
    told = objects["ConfigMap/llmctl"]["data"]
    scaled = read("autoscaling.yaml")["ScaledObject/llmctl"]["spec"]
    (trigger,) = scaled["triggers"]
    (job,) = objects["Job/llmctl-topics"]["spec"]["template"]["spec"]["containers"]
    (partitions,) = [each for each in job["args"] if each.startswith("--queue-partitions=")]

    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "llmctl"}
    assert f"{scaled['scaleTargetRef']['kind']}/{scaled['scaleTargetRef']['name']}" in objects
    assert trigger["type"] == "kafka"
    assert trigger["metadata"]["topic"] == told[f"{PREFIX}REQUEST_TOPIC"]
    assert trigger["metadata"]["consumerGroup"] == told[f"{PREFIX}REQUEST_GROUP"]
    assert trigger["metadata"]["bootstrapServers"] == told[f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert scaled["minReplicaCount"] == objects["StatefulSet/llmctl"]["spec"]["replicas"]
    assert scaled["maxReplicaCount"] <= int(partitions.partition("=")[2])


def test_the_autoscaler_leaves_room_for_what_is_in_flight() -> None:
    """A busy replica's lag is its calls in flight; the queue's limit lets it grow until all replicas run."""
    told = read("kafka.yaml")["ConfigMap/llmctl"]["data"]
    scaled = read("autoscaling.yaml")["ScaledObject/llmctl"]["spec"]
    threshold = int(scaled["triggers"][0]["metadata"]["lagThreshold"])
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    (policy,) = down["policies"]

    assert threshold > Settings.model_fields["concurrency"].default
    assert int(told[f"{PREFIX}QUEUE_MAX_SIZE"]) > threshold * scaled["maxReplicaCount"]
    assert policy["periodSeconds"] >= read_pod("kafka.yaml")["terminationGracePeriodSeconds"]
