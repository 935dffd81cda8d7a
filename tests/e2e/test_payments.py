"""A second application without code: payments on real Kafka, in separate stages, to a promoted model; the audit, and what it finds."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tidemill.audit.history import RunHistory, read_history
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.replay.feed import StreamTable
from tidemill.replay.replay_run import ReplayOptions, replay_run
from tidemill.runs.instance import find_instance, reachable
from tidemill.runs.pipeline import SEPARATE, TOPOLOGY, stage_processes
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.statistics.metrics import roc_auc

PAYMENTS = Path(__file__).parents[2] / "examples" / "payments"
DATA = DataSetOptions(count=15_000)
TWO_DAYS_MS = 2 * 86_400_000


@pytest.mark.lasts(130)
@pytest.mark.timeout(600)
def test_payments_come_through_to_a_promoted_model_and_the_audit_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, TOPOLOGY):
        monkeypatch.delenv(name, raising=False)
    application = Path(shutil.copytree(PAYMENTS, tmp_path / "payments"))
    (application / "app.yaml").write_text((application / "app.yaml").read_text() + f"topology: {SEPARATE}\n")
    run = tmp_path / "run"
    options = ReplayOptions("payments", lambda plan: load_data_set(plan, "payments", DATA), slice_ms=TWO_DAYS_MS, up=True, folder=run)
    result = replay_run(application, options, os.environ, Console(quiet=True))
    assert result.answered == DATA.count and result.promotions >= 1
    assert {log.stem for log in (run / "logs").iterdir()} == {*stage_processes(SEPARATE), "gateway", "alerts", "fork-server"}

    plan = load_plan(application)
    instance = find_instance(run, os.environ)
    with reachable(instance) as servers:
        # The run's processes have ended; its servers came up again on what they left.
        history = read_history(plan, KafkaBroker(servers.bootstrap_servers), ConfluentSchemaRegistry(servers.registry_url))
        check(plan, history, load_data_set(plan, "payments", DATA))
        for name, value in servers.environment.items():
            monkeypatch.setenv(name, value)
        command = ["audit", str(application), "--artifacts", instance.artifacts]
        clean = CliRunner().invoke(app, command)
        assert clean.exit_code == 0, clean.output
        assert clean.output.count(f"{DATA.count:,}") == 2, clean.output
        # Without its models the run cannot be recomputed, and the audit does not pass over that.
        for artifact in [path for path in Path(instance.artifacts).rglob("*") if path.is_file()]:
            artifact.unlink()
        wrong = CliRunner().invoke(app, command)
        assert wrong.exit_code == 1 and "differs" in wrong.output, wrong.output


def check(plan: Plan, history: RunHistory, made: Mapping[str, StreamTable]) -> None:
    """Against the data set itself: who reported in time is labelled, all others timed out as negative, and who came later changed nothing."""
    payments, chargebacks = made["payments"], made["chargebacks"]
    assert history.accepted == len(payments) + len(chargebacks) and not history.rejected and not history.duplicates
    ids = (table.columns.column("payment_id").to_pylist() for table in (payments, chargebacks))
    paid, reported = (dict(zip(names, table.available_ms.tolist(), strict=True)) for names, table in zip(ids, (payments, chargebacks), strict=True))
    delays = np.array([at - paid[name] for name, at in reported.items()])
    in_time = int((delays <= TWO_DAYS_MS).sum())
    statuses = Counter(history.outcomes.column("status").to_pylist())
    assert statuses["labelled"] == in_time > 400 and statuses["timeout"] == len(payments) - in_time
    assert plan.models["fraud"].label.corrections == "first" and not statuses["corrected"] and len(delays) > in_time
    promoted = [event for event in history.deployments if event["event"] == "promoted"]
    assert promoted and plan.models["fraud"].label.on_timeout == "negative"
    outcomes = history.outcomes.to_pandas()
    served = outcomes[(outcomes["deployment_sequence"] >= promoted[0]["sequence"]) & outcomes["status"].isin(["labelled", "timeout"])]
    assert served["label"].notna().all() and 0.01 < served["label"].mean() < 0.1
    assert roc_auc(served["label"].to_numpy(float), served["score"].to_numpy(float)) > 0.65, "also while the pattern changes"
