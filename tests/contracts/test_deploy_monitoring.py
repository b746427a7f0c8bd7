"""Alerts and dashboard speak of metrics that there are, and what they tell people to do can be done."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.contracts.error_codes import LLMErrorCode
from service.engine.phase import Phase
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.wiring import build
from tests.waiting import HANG_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
PROVISIONING = DEPLOY / "grafana" / "provisioning"
ROWS = ["Requests", "Queue", "Providers", "Callbacks", "Cost", "Process"]
OF_THE_SCRAPE = frozenset({"job", "instance"})
"""Labels that Prometheus adds to every series."""
_WORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "bool"}
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?")


@dataclass(frozen=True)
class Alert:
    """A rule, as it stands in the file."""

    name: str
    expression: str
    severity: str
    texts: dict[str, str]


def list_alerts() -> list[Alert]:
    """All rules of all groups."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]


def list_unit_tests() -> list[dict[str, Any]]:
    """What promtool is asked to check."""
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())["tests"]
    return [each for test in tests for each in test["promql_expr_test"]]


def read_dashboard() -> dict[str, Any]:
    """The dashboard."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def list_expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard with the title of its panel, its variables put in."""
    for panel in read_dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], put_in(target["expr"])
    for note in read_dashboard()["annotations"]["list"]:
        if "expr" in note:
            yield note["name"], put_in(note["expr"])


def put_in(expression: str) -> str:
    """An expression as Prometheus gets it."""
    return expression.replace("$__rate_interval", "5m")


def find_selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that an expression reads, each with the labels that it asks of it."""
    bare = re.sub(r"\[[^\]]*\]", "", expression)
    bare = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", " ", bare)
    for found in _SELECTOR.finditer(bare):
        name, matchers = found.groups()
        called = bare[found.end() :].lstrip().startswith("(")
        inside_braces = bare.count("{", 0, found.start()) > bare.count("}", 0, found.start())
        if name in _WORDS or (called and matchers is None) or inside_braces:
            continue
        yield name, set(re.findall(r"(\w+)\s*(?:=|!=)", re.sub(r'"[^"]*"', "", matchers or "")))


def find_groupings(expression: str) -> set[str]:
    """The labels by which an expression groups or joins."""
    groups = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",")}


@pytest.fixture
async def labels_of(tmp_path: Path) -> dict[str, frozenset[str]]:
    """Every series that the service has, with the labels that it can have."""
    settings = Settings(
        _env_file=None,
        queue_path=tmp_path / "queue.db",
        allow_mock_provider=True,
        default_llm_provider="mock",
    )
    transport = httpx.ASGITransport(app=build(settings).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        text = (await client.get("/metrics")).text
    found = {"up": OF_THE_SCRAPE}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = OF_THE_SCRAPE | set(sample.labels)
    # What has not happened yet has no series; what it will be called stands in the registry.
    for collector, names in Metrics([]).registry._collector_to_names.items():
        for name in names:
            own = frozenset(getattr(collector, "_labelnames", ()))
            bounds = {"le"} if name.endswith("_bucket") else set()
            found[name] = found.get(name, OF_THE_SCRAPE) | own | bounds
    return found


def find_faults(expression: str, labels_of: dict[str, frozenset[str]]) -> list[str]:
    """What an expression names that there is not."""
    selectors = list(find_selectors(expression))
    assert selectors, expression
    faults = [name for name, _ in selectors if name not in labels_of]
    for name, labels in selectors:
        faults += [f"{name}{{{label}}}" for label in labels - labels_of.get(name, labels)]
    of_all = frozenset().union(*(labels_of.get(name, frozenset()) for name, _ in selectors))
    return faults + [f"by ({label})" for label in find_groupings(expression) - of_all]


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda alert: alert.name)
def test_an_alert_reads_what_there_is(alert: Alert, labels_of: dict[str, frozenset[str]]) -> None:
    """Its metrics and labels are the service's."""
    assert find_faults(alert.expression, labels_of) == []


def test_the_dashboard_reads_what_there_is(labels_of: dict[str, frozenset[str]]) -> None:
    """Every panel's metrics and labels are the service's."""
    faults = {title: find_faults(expression, labels_of) for title, expression in list_expressions()}

    assert len(faults) > 30
    assert {title: found for title, found in faults.items() if found} == {}


def test_the_dashboard_leaves_no_metric_out(labels_of: dict[str, frozenset[str]]) -> None:
    """What the service counts can be seen."""
    shown = {name for _, expression in list_expressions() for name, _ in find_selectors(expression)}
    ends = "_(bucket|sum|count|total|created)$"
    seen = {re.sub(ends, "", name) for name in shown}
    ours = {re.sub(ends, "", name) for name in labels_of if name.startswith(("llm_", "callback_"))}

    assert ours == {name for name in seen if name.startswith(("llm_", "callback_"))}


@pytest.mark.parametrize(
    "expression",
    [
        "llm_queue_dept > 1",
        'llm_requests_processed_total{state="error"} > 1',
        "sum by (topic) (rate(llm_requests_processed_total[5m])) > 1",
    ],
)
def test_what_there_is_not_is_found(expression: str, labels_of: dict[str, frozenset[str]]) -> None:
    """The check of expressions can fail."""
    assert len(find_faults(expression, labels_of)) == 1


def test_values_of_labels_are_those_of_the_code() -> None:
    """Phases and error codes that alerts ask for exist."""
    text = (PROMETHEUS / "alerts.yaml").read_text()

    assert set(re.findall(r'phase="(\w+)"', text)) <= set(Phase)
    assert set(re.findall(r'error_code="(\w+)"', text)) <= set(LLMErrorCode)


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: Alert) -> None:
    """One line, a few sentences, and whether to get up at night."""
    assert alert.severity in {"warning", "critical"}
    assert set(alert.texts) == {"summary", "description"}
    assert len(alert.texts["summary"]) < 110
    assert alert.texts["description"].count(". ") + 1 >= 2


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda alert: alert.name)
def test_what_an_alert_names_exists(alert: Alert) -> None:
    """Settings, error codes and other alerts."""
    text = " ".join(alert.texts.values())
    settings = {name.upper() for name in Settings.model_fields}
    capitals = set(re.findall(r"(?<![\w.])_?[A-Z]{2,}(?:_[A-Z]+)+\b|(?<!\w)_[A-Z]+\b", text))

    for name in capitals:
        assert name in settings | set(LLMErrorCode) or any(
            name.startswith("_") and each.endswith(name) for each in settings
        ), name
    assert set(re.findall(r"\bLlm[A-Z]\w+", text)) <= {each.name for each in list_alerts()}


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda alert: alert.name)
def test_an_alert_was_seen_to_fire_and_to_stay_quiet(alert: Alert) -> None:
    """In promtool's unit tests; and every label that its texts name is on the alert that fired."""
    mine = [each for each in list_unit_tests() if names(each["expr"], alert.name)]
    fired = [sample["labels"] for each in mine for sample in each["exp_samples"]]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.texts.values())))

    assert fired
    assert [each for each in mine if not each["exp_samples"]]
    for labels in fired:
        assert named <= set(re.findall(r"(\w+)=", labels))
        assert f'severity="{alert.severity}"' in labels


def names(expression: str, alert: str) -> bool:
    """Whether a test asks for an alert."""
    found = re.findall(r'alertname(=~?)"([^"]+)"', expression)
    return any(re.fullmatch(value, alert) if how == "=~" else value == alert for how, value in found)


def run_promtool(*words: str, folder: Path = PROMETHEUS) -> str:
    """What promtool prints; it is no package of Python, so without it this is skipped everywhere."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    done = subprocess.run(
        ["promtool", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_sees_every_alert_fire_and_stay_quiet() -> None:
    """The unit tests of the rules."""
    assert "SUCCESS" in run_promtool("test", "rules", "alerts_test.yaml")


def test_promtool_takes_rules_and_configuration() -> None:
    """Both as Prometheus reads them."""
    assert f"{len(list_alerts())} rules found" in run_promtool("check", "rules", "alerts.yaml")
    assert "is valid" in run_promtool("check", "config", "prometheus.yaml")


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """As if each were a rule."""
    rules = [
        {"record": f"panel:{number}", "expr": each} for number, (_, each) in enumerate(list_expressions())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in run_promtool("check", "rules", "rules.yaml", folder=tmp_path)


def test_the_dashboard_can_be_imported() -> None:
    """It has an identity of its own, and nothing that only one Grafana could know: sources, numbers."""
    dashboard = read_dashboard()
    sources = {
        each["datasource"]["uid"]
        for panel in dashboard["panels"]
        for each in (panel, *panel.get("targets", []))
        if "datasource" in each
    }
    variables = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}

    assert dashboard["uid"] == "llmctl"
    assert dashboard["schemaVersion"] >= 39
    assert "id" not in dashboard
    assert sources == {"${datasource}"}
    assert variables == {
        "datasource": "datasource",
        "instance": "query",
        "provider": "query",
    }


def test_the_dashboard_has_its_rows_and_no_panel_covers_another() -> None:
    """In the order in which a request passes."""
    panels = read_dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for each in panels:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, each["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells

    assert [each["title"] for each in panels if each["type"] == "row"] == ROWS
    assert len({each["id"] for each in panels}) == len(panels)
    assert all(each["description"] for each in panels if each["type"] != "row")


def test_every_variable_of_the_dashboard_is_declared() -> None:
    """And those that are, are used."""
    dashboard = read_dashboard()
    text = json.dumps({key: value for key, value in dashboard.items() if key != "templating"})
    used = set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval"}

    assert used == {each["name"] for each in dashboard["templating"]["list"]}


def test_grafana_is_given_both() -> None:
    """The data source, and the folder that the compose file mounts the dashboard into."""
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "llmctl.yaml").read_text())["providers"]
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    mounts = dict(each.split(":")[:2] for each in compose["grafana"]["volumes"] if each.startswith("."))

    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert "prometheus" in compose
    assert mounts["../grafana/dashboard.json"].startswith(f"{provider['options']['path']}/")
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
