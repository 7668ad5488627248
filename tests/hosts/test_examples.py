"""The examples for Kubernetes, Prometheus and Grafana: valid, and what they call, name and ask for is there."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import click
import kubernetes_validate
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.needs import needs_tool

import vecfill
from vecfill.cli import vecfill as command_line
from vecfill.config.settings import Settings
from vecfill.watching.health import Health
from vecfill.watching.metrics import METRICS, registry_of
from vecfill.watching.target_state import TargetState

ROOT = Path(vecfill.__file__).parents[2]
MANIFESTS = sorted((ROOT / "configs" / "k8s").glob("*.yaml"))
RULES = ROOT / "configs" / "monitoring" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "configs" / "monitoring" / "grafana-dashboard.json"
VERSIONS = ("1.31", "1.37")
"""The oldest Kubernetes that somebody may still run, and the newest whose schemas the validator has."""


def documents(file: Path) -> list[dict]:
    return list(yaml.safe_load_all(file.read_text()))


def containers() -> list[dict]:
    """The containers of all manifests."""
    pods = []
    for document in [one for file in MANIFESTS for one in documents(file)]:
        if document["kind"] == "Deployment":
            pods.append(document["spec"]["template"]["spec"])
        elif document["kind"] == "CronJob":
            pods.append(document["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    return [one for pod in pods for one in pod["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_kubernetes_takes_the_manifests(file, version):
    for document in documents(file):
        kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**document, "nonsense": 1}, version, strict=True)


def test_the_containers_call_what_there_is():
    assert len(containers()) == 2
    for container in containers():
        verb, *flags = container["args"]
        command = command_line.get_command(click.Context(command_line), verb)
        assert command.make_context(verb, flags).params["config"] == Path("/etc/vecfill/vecfill.toml")
        (database,) = container["env"]
        assert database["name"] == "DATABASE_URL"


def test_the_settings_are_those_of_targets(tmp_path, monkeypatch):
    secret, settings = documents(ROOT / "configs" / "k8s" / "settings.yaml")
    (tmp_path / "vecfill.toml").write_text(settings["data"]["vecfill.toml"])
    monkeypatch.setenv("DATABASE_URL", secret["stringData"]["url"])
    (target,) = Settings.load_all({}, tmp_path / "vecfill.toml")
    assert (target.table, target.database) == ("public.jobs", secret["stringData"]["url"])


def test_the_probes_ask_for_pages_on_the_port_of_the_metrics():
    (watch,) = [one for one in containers() if one["args"][0] == "watch"]
    (port,) = watch["ports"]
    assert f"--metrics={port['containerPort']}" in watch["args"]
    probes = {kind: watch[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")}
    assert probes == {
        "livenessProbe": {"path": "/healthz", "port": port["name"]},
        "readinessProbe": {"path": "/readyz", "port": port["name"]},
    }


def samples() -> set[str]:
    """Names of all samples that a watch may have."""
    state = TargetState(target="t", model="m", waiting=lambda: "w", succeeded_at=1.0, lease=True)
    state.errors["E"] += 1
    text = generate_latest(registry_of(Health([state]))).decode()
    found = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    return found | {one.name for one in METRICS if one.name == "vecfill_coverage_ratio"}


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict]:
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list[str]:
    """What the alerts and the dashboard ask Prometheus for."""
    return [rule["expr"] for rule in rules()] + [target["expr"] for one in panels() for target in one["targets"]]


def test_alerts_and_dashboard_ask_for_metrics_that_there_are_and_for_all_of_them():
    asked = {name for expression in expressions() for name in re.findall(r"\bvecfill_\w+", expression)}
    assert asked == samples()


def test_alerts_name_labels_and_phases_that_there_are():
    labels = {"target", "model", *(label for one in METRICS for label in one.labels)}
    for rule in rules():
        named = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
        grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
        assert set(named) <= {name.strip() for part in grouped for name in part.split(",")} <= labels
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_promtool_takes_the_alerts():
    ended = subprocess.run(
        [needs_tool("promtool"), "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_the_panels_of_the_dashboard_lie_beside_one_another():
    assert len({one["id"] for one in panels()}) == len(panels())
    for one, other in combinations([panel["gridPos"] for panel in panels()], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
        assert one["x"] + one["w"] <= 24
