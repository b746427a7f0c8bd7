"""Alerts and dashboard speak of metrics that there are, and what they tell people to do can be done."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.contracts.error_codes import LLMErrorCode
from service.engine.phase import Phase
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.contracts.deploying import DEPLOY, run_tool

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
    name: str
    expression: str
    severity: str
    texts: dict[str, str]


def list_alerts() -> list[Alert]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]


def list_unit_tests() -> list[dict[str, Any]]:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())["tests"]
    return [each for test in tests for each in test["promql_expr_test"]]


def read_dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def list_expressions() -> Iterator[tuple[str, str]]:
    dashboard = read_dashboard()
    expressions = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    notes = [(note["name"], note["expr"]) for note in dashboard["annotations"]["list"] if "expr" in note]
    for title, expression in expressions + notes:
        yield title, expression.replace("$__rate_interval", "5m")


def find_selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
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
    groups = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",")}


@pytest.fixture
def labels_of(served_metrics: str) -> dict[str, frozenset[str]]:
    found = {"up": OF_THE_SCRAPE}
    for family in text_string_to_metric_families(served_metrics):
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
    selectors = list(find_selectors(expression))
    assert selectors, expression
    faults = [name for name, _ in selectors if name not in labels_of]
    for name, labels in selectors:
        faults += [f"{name}{{{label}}}" for label in labels - labels_of.get(name, labels)]
    of_all = frozenset().union(*(labels_of.get(name, frozenset()) for name, _ in selectors))
    return faults + [f"by ({label})" for label in find_groupings(expression) - of_all]


def test_alerts_and_dashboard_read_only_metrics_and_labels_of_the_service(
    labels_of: dict[str, frozenset[str]],
) -> None:
    expressions = [(alert.name, alert.expression) for alert in list_alerts()] + list(list_expressions())
    faults = {title: find_faults(expression, labels_of) for title, expression in expressions}

    assert len(faults) > 30
    assert {title: found for title, found in faults.items() if found} == {}


def test_the_dashboard_leaves_no_metric_out(labels_of: dict[str, frozenset[str]]) -> None:
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
    assert len(find_faults(expression, labels_of)) == 1


def test_values_of_labels_are_those_of_the_code() -> None:
    text = (PROMETHEUS / "alerts.yaml").read_text()

    assert set(re.findall(r'phase="(\w+)"', text)) <= set(Phase)
    assert set(re.findall(r'error_code="(\w+)"', text)) <= set(LLMErrorCode)


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda alert: alert.name)
def test_alert_has_texts_that_name_what_exists_and_a_unit_test(alert: Alert) -> None:
    assert alert.severity in {"warning", "critical"}
    assert set(alert.texts) == {"summary", "description"}
    assert len(alert.texts["summary"]) < 110
    assert alert.texts["description"].count(". ") + 1 >= 2

    text = " ".join(alert.texts.values())
    settings = {name.upper() for name in Settings.model_fields}
    for name in re.findall(r"(?<![\w.])_?[A-Z]{2,}(?:_[A-Z]+)+\b|(?<!\w)_[A-Z]+\b", text):
        is_ending = name.startswith("_") and any(each.endswith(name) for each in settings)
        assert is_ending or name in settings | set(LLMErrorCode), name
    assert set(re.findall(r"\bLlm[A-Z]\w+", text)) <= {each.name for each in list_alerts()}

    tests = [each for each in list_unit_tests() if names(each["expr"], alert.name)]
    fired = [sample["labels"] for each in tests for sample in each["exp_samples"]]
    assert fired
    assert [each for each in tests if not each["exp_samples"]]
    for labels in fired:
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= set(re.findall(r"(\w+)=", labels))
        assert f'severity="{alert.severity}"' in labels


def names(expression: str, alert: str) -> bool:
    found = re.findall(r'alertname(=~?)"([^"]+)"', expression)
    return any(re.fullmatch(value, alert) if how == "=~" else value == alert for how, value in found)


def run_promtool(*words: str, folder: Path = PROMETHEUS) -> str:
    done = run_tool("promtool", *words, hint="; it comes with Prometheus", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_rules_and_configuration_and_passes_the_unit_tests() -> None:
    assert f"{len(list_alerts())} rules found" in run_promtool("check", "rules", "alerts.yaml")
    assert "is valid" in run_promtool("check", "config", "prometheus.yaml")
    assert "SUCCESS" in run_promtool("test", "rules", "alerts_test.yaml")


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": each} for number, (_, each) in enumerate(list_expressions())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in run_promtool("check", "rules", "rules.yaml", folder=tmp_path)


def test_the_dashboard_can_be_imported_and_declares_its_variables() -> None:
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
    assert variables == {"datasource": "datasource", "instance": "query", "provider": "query"}
    text = json.dumps({key: value for key, value in dashboard.items() if key != "templating"})
    assert set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval"} == set(variables)


def test_the_dashboard_has_its_rows_and_no_panel_covers_another() -> None:
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


def test_grafana_is_given_both() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "llmctl.yaml").read_text())["providers"]
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    mounts = dict(each.split(":")[:2] for each in compose["grafana"]["volumes"] if each.startswith("."))

    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert "prometheus" in compose
    assert mounts["../grafana/dashboard.json"].startswith(f"{provider['options']['path']}/")
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
