"""The compose file: it starts from an example, keeps to this machine, and hands requests round as it says."""

import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from service.settings import PREFIX, load_settings
from tests.contracts.deploying import CLOSING_SECONDS, ROOT, name_image, run_tool

COMPOSE = ROOT / "deploy" / "compose"
FILE = COMPOSE / "compose.yaml"
PROXY = COMPOSE / "haproxy.cfg"
EXAMPLE = COMPOSE / ".env.example"
REPLICAS = {"service-1": "provider-1", "service-2": "provider-2"}
FILLED_IN = {
    f"{PREFIX}API_TOKENS": "caller:token",
    f"{PREFIX}ADMIN_TOKEN": "token",
    "GRAFANA_ADMIN_PASSWORD": "password",
}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def read_services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return services


def fill_in(text: str) -> str:
    return _VARIABLE.sub(lambda found: FILLED_IN.get(found[1]) or (found[3] if found[2] == "-" else ""), text)


def read_environment(service: str) -> dict[str, str]:
    told = yaml.safe_load(fill_in(FILE.read_text()))["services"][service]["environment"]
    return {name: str(value) for name, value in told.items() if value is not None}


@pytest.mark.parametrize(("replica", "provider"), REPLICAS.items())
def test_a_replica_starts_beside_its_provider_and_has_time_to_drain(
    replica: str, provider: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Plain HTTP to a provider is allowed on loopback only, and the fake one listens there."""
    monkeypatch.chdir(tmp_path)
    services, environment = read_services(), read_environment(replica)
    # What the image says; test_deploy_image.py reads it from there.
    for key, value in {**environment, f"{PREFIX}HOST": "0.0.0.0", f"{PREFIX}PORT": "8080"}.items():
        monkeypatch.setenv(key, value)
    settings = load_settings()

    assert (settings.queue_backend, settings.replica_name) == ("kafka", replica)
    assert settings.openai_base_url == "http://127.0.0.1:8089/v1"
    assert services[replica]["network_mode"] == f"service:{provider}"
    assert services[provider]["networks"]["default"]["aliases"] == [replica]
    assert services[provider]["command"][:2] == ["simulate", "provider"]
    assert services[replica]["depends_on"][provider]["condition"] == "service_healthy"
    grace = float(services[replica]["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.drain_timeout_seconds + CLOSING_SECONDS


def test_what_a_service_waits_for_exists() -> None:
    services = read_services()
    with_one = {name for name, each in services.items() if "healthcheck" in each}
    with_the_images = {name for name, each in services.items() if each["image"].startswith("llmctl:")}
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            if how["condition"] == "service_healthy":
                assert other in with_one | with_the_images
            if how["condition"] == "service_completed_successfully":
                assert "restart" not in services[other]


def test_every_port_is_open_to_this_machine_alone() -> None:
    ports = [port for service in read_services().values() for port in service.get("ports", [])]

    assert len(ports) == len({port.split(":")[1] for port in ports}) > 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_exists() -> None:
    mounts = [mount for service in read_services().values() for mount in service.get("volumes", [])]
    volumes = yaml.safe_load(FILE.read_text())["volumes"]

    for source, target, *mode in (mount.split(":") for mount in mounts):
        assert target.startswith("/")
        if source.startswith("."):
            assert (COMPOSE / source).exists(), source
            assert mode == ["ro"]
        else:
            assert source in volumes


def test_the_example_holds_every_variable_and_no_secret() -> None:
    text = EXAMPLE.read_text()
    read = {found[1]: found[2] for found in _VARIABLE.finditer(FILE.read_text())}
    environment = read_services()["service-1"]["environment"]
    passed_on = {name for name, value in environment.items() if value is None}
    offered = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))

    assert set(offered) == set(read) | passed_on
    assert {name for name, kind in read.items() if kind == "?"} == set(FILLED_IN)
    assert all(offered[name] == "" for name in FILLED_IN)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_our_images_are_this_version_and_built_here() -> None:
    ours = [each for each in read_services().values() if each["image"].startswith("llmctl:")]

    assert len(ours) == 5
    assert {each["image"] for each in ours} == {name_image()}
    for each in ours:
        assert (COMPOSE / each["build"]["context"]).resolve() == ROOT
        assert (ROOT / each["build"]["dockerfile"]).exists()


def test_every_other_image_is_pinned() -> None:
    images = {name: each["image"] for name, each in read_services().items()}
    pom = ElementTree.parse(ROOT / "tests" / "apache_kafka" / "pom.xml")
    (version,) = [each.text for each in pom.iter() if each.tag.endswith("kafka.version")]

    assert all(re.search(r":v?\d+\.\d+", image) for image in images.values())
    assert images["kafka"] == f"apache/kafka:{version}"


def test_the_proxy_asks_every_replica_and_repeats_nothing_that_was_sent() -> None:
    text = re.sub(r"\s+#.*", "", PROXY.read_text())
    servers = dict(re.findall(r"^\s+server (\S+) (\S+)$", text, re.MULTILINE))
    port = read_services()["proxy"]["ports"][0].rpartition(":")[2]

    assert servers == {name: f"{name}:8080" for name in REPLICAS}
    assert re.findall(r"retry-on (.*)", text) == ["conn-failure"]
    assert "balance roundrobin" in text
    assert "http-check send meth GET uri /readyz" in text
    assert f"bind :{port}\n" in text
    # A drain through the proxy would stop one of the replicas by chance.
    (denied,) = re.findall(r"http-request return status 404 .* if (.*)", text)
    assert "{ path_beg /admin/ }" in denied
    assert "{ path /metrics }" in denied


def test_prometheus_asks_every_replica_by_itself() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())[
        "scrape_configs"
    ]

    assert job["job_name"] == "llmctl"
    assert job["static_configs"][0]["targets"] == [f"{name}:8080" for name in REPLICAS]


def test_docker_compose_reads_the_file() -> None:
    told = {**os.environ, **FILLED_IN}
    if run_tool("docker", "compose", "version").returncode:
        pytest.skip("docker compose is not installed")
    done = run_tool("docker", "compose", "-f", FILE, "--env-file", EXAMPLE, "config", "--quiet", env=told)

    assert (done.returncode, done.stderr) == (0, "")


def test_haproxy_reads_its_configuration() -> None:
    done = run_tool("haproxy", "-c", "-f", PROXY)

    assert done.returncode == 0, done.stderr
