"""The loop closes: raw events to a promoted model on real Kafka, in the fused topology, with every process of it killed on the way."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tidemill.demo.run import DemoOptions, run_demo
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.pipeline import TOPOLOGY, stage_processes
from tidemill.shared.service.stage import FUSED


@pytest.mark.usefixtures("forked_interpreters")
@pytest.mark.lasts(155)
@pytest.mark.timeout(600)
def test_the_loop_closes_although_every_service_is_killed_once(
    infrastructure: Infrastructure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run_demo` itself raises when an answer is lost or doubled, a bad record is unaccounted for, or audit and oracle find a difference."""
    for name, value in infrastructure.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(TOPOLOGY, FUSED)
    stages = stage_processes(FUSED)
    options = DemoOptions(days=42, measure_load=False, output=tmp_path / "report", keep=tmp_path / "run", kill=stages)
    figures = run_demo(options, Console(quiet=True))
    assert all(figures["restarts"][stage] >= 1 for stage in stages), figures["restarts"]
    assert figures["promotions"] == 1 and figures["retrains"] >= 1
    assert figures["predictions"] == figures["outcomes"] > 30_000
    assert figures["served"]["auc"] > 0.65
    assert figures["audit"]["vectors_compared"] == figures["audit"]["predictions_compared"] == figures["predictions"]
    assert figures["audit"]["oracle_values"] > 50_000
    assert json.loads((tmp_path / "report" / "demo-report.json").read_text()) == json.loads(json.dumps(figures))
    page = (tmp_path / "report" / "demo-report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page, "opens without a network"
