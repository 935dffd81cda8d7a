"""The rules for Prometheus speak of metrics and labels that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidemill.shared.observability.metrics import Metrics

FILE = Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yaml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_speaks_of_a_metric_with_its_labels(rule: dict[str, Any]) -> None:
    metrics = Metrics("features")
    known = {f"{name}": collector for collector, names in metrics.registry._collector_to_names.items() for name in names}
    named = re.findall(r"tidemill_\w+", rule["expr"])
    assert named
    labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for name in named:
        assert name in known, f"there is no metric {name}"
        assert labels <= {*known[name]._labelnames}, name  # type: ignore[attr-defined]  # prometheus_client keeps the names there
    assert rule["annotations"]["description"]
    assert rule["labels"]["severity"] in ("warning", "critical")
