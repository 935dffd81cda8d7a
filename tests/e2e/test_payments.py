"""A second application without code: payments on real Kafka, in separate stages, to promoted models, one with classes that it learns; the audit."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.e2e.payment_causes import CAUSES, add_causes, causes
from tidemill.audit.history import RunHistory, prediction_schema, read_history
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.replay.feed import StreamTable
from tidemill.replay.replay_run import ReplayOptions, replay_run
from tidemill.runs.instance import find_instance, reachable
from tidemill.runs.pipeline import SEPARATE, TOPOLOGY, stage_processes
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.statistics.metrics import roc_auc

PAYMENTS = Path(__file__).parents[2] / "examples" / "payments"
DATA = DataSetOptions(count=15_000)
TWO_DAYS_MS = 2 * 86_400_000


@pytest.mark.usefixtures("forked_interpreters")
@pytest.mark.lasts(130)
@pytest.mark.timeout(600)
def test_payments_come_through_to_a_promoted_model_and_the_audit_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, TOPOLOGY):
        monkeypatch.delenv(name, raising=False)
    application = Path(shutil.copytree(PAYMENTS, tmp_path / "payments"))
    add_causes(application)
    # A search of two trials: what the second model costs is saved there.
    (application / "app.yaml").write_text((application / "app.yaml").read_text().replace("trials: 4", "trials: 2") + f"topology: {SEPARATE}\n")
    run = tmp_path / "run"
    options = ReplayOptions("payments", read, slice_ms=TWO_DAYS_MS, up=True, folder=run)
    result = replay_run(application, options, os.environ, Console(quiet=True))
    made = read(load_plan(application))
    requests = len(made["payments"]) + len(made["reports"])
    assert result.answered == requests and result.promotions >= 3
    assert {log.stem for log in (run / "logs").iterdir()} == {*stage_processes(SEPARATE), "gateway", "alerts", "fork-server"}

    plan = load_plan(application)
    instance = find_instance(run, os.environ)
    with reachable(instance) as servers:
        # The run's processes have ended; its servers came up again on what they left.
        history = read_history(plan, KafkaBroker(servers.bootstrap_servers), ConfluentSchemaRegistry(servers.registry_url))
        check(plan, history, made)
        check_causes(history, made)
        for name, value in servers.environment.items():
            monkeypatch.setenv(name, value)
        command = ["audit", str(application), "--artifacts", instance.artifacts]
        clean = CliRunner().invoke(app, command)
        assert clean.exit_code == 0, clean.output
        assert clean.output.count(f"{requests:,}") == 2, clean.output
        monkeypatch.setenv("TIDEMILL_ARTIFACTS__URI", instance.artifacts)
        again = CliRunner().invoke(app, ["backtest", str(application), "--run", str(run), "--predictions", str(tmp_path / "again.parquet")])
        assert again.exit_code == 0, again.output
        check_again(history, ConfluentSchemaRegistry(servers.registry_url), pq.read_table(tmp_path / "again.parquet"))
        # Without its models the run cannot be recomputed, and the audit does not pass over that.
        for artifact in [path for path in Path(instance.artifacts).rglob("*") if path.is_file()]:
            artifact.unlink()
        wrong = CliRunner().invoke(app, command)
        assert wrong.exit_code == 1 and "differs" in wrong.output, wrong.output


def read(plan: Plan) -> dict[str, StreamTable]:
    """Payments, their chargebacks, and what the inquiries into these found."""
    made = load_data_set(plan, "payments", DATA)
    return {**made, **causes(made)}


def check_again(history: RunHistory, registry: SchemaRegistry, again: pa.Table) -> None:
    """A backtest of the run's journal says what the run said, to the bit, promotions and learned classes included."""
    decoder = ColumnDecoder(registry, prediction_schema())
    said = pa.Table.from_batches([decoder.decode(records.values).batch for runs in history.predictions.values() for records in runs])
    own = said.rename_columns(["event_id" if name == "request_id" else name for name in said.column_names])
    names = [name for name in again.column_names if name in own.column_names]
    assert {"event_id", "model", "score", "scores", "predicted", "predicted_label", "model_version", "variant", "reason"} <= set(names)
    order = [("event_id", "ascending"), ("model", "ascending")]
    live, backtest = (table.select(names).sort_by(order) for table in (own, again))
    assert live.num_rows == backtest.num_rows > 15_000 and len(set(live["model_version"].to_pylist())) >= 4
    for name in names:
        assert live[name].cast(backtest[name].type).combine_chunks().equals(backtest[name].combine_chunks()), name


def check_causes(history: RunHistory, made: Mapping[str, StreamTable]) -> None:
    """The cause that nobody had declared and that came late is learned when there are labels enough of it, and answered from then on."""
    mine = [one for one in history.deployments if one["model"] == "cause"]
    classes = {one["version"]: tuple(one["classes"]) for one in mine if one["event"] == "registered"}
    assert list(dict.fromkeys(classes.values())) == [CAUSES[:2], CAUSES]
    served = [one for one in mine if one["event"] == "promoted"]
    knows = next(one for one in served if classes[one["version"]] == CAUSES)
    outcomes = history.outcomes.to_pandas()
    late = outcomes[(outcomes["model"] == "cause") & (outcomes["deployment_sequence"] >= knows["sequence"])]
    truth = dict(zip(*(made["findings"].columns[name].to_pylist() for name in ("payment_id", "cause")), strict=True))
    assert (late["label_class"] == [truth[name] for name in late["request_id"]]).all()
    tested = late["label_class"] == "testing"
    assert tested.sum() > 20 and (late["label"][tested] == CAUSES.index("testing")).all()
    assert set(late["predicted"]) <= set(range(len(CAUSES)))
    chances = np.array([dict(scores)["testing"] for scores in late["scores"]])
    assert roc_auc(tested.to_numpy(float), chances) > 0.7, "by twenty labels of it"


def check(plan: Plan, history: RunHistory, made: Mapping[str, StreamTable]) -> None:
    """Against the data set itself: who reported in time is labelled, all others timed out as negative, and who came later changed nothing."""
    payments, chargebacks = made["payments"], made["chargebacks"]
    assert history.accepted == sum(map(len, made.values())) and not history.rejected and not history.duplicates
    ids = (table.columns.column("payment_id").to_pylist() for table in (payments, chargebacks))
    paid, reported = (dict(zip(names, table.available_ms.tolist(), strict=True)) for names, table in zip(ids, (payments, chargebacks), strict=True))
    delays = np.array([at - paid[name] for name, at in reported.items()])
    in_time = int((delays <= TWO_DAYS_MS).sum())
    outcomes = history.outcomes.to_pandas()
    outcomes = outcomes[outcomes["model"] == "fraud"]
    statuses = Counter(outcomes["status"])
    assert statuses["labelled"] == in_time > 400 and statuses["timeout"] == len(payments) - in_time
    assert plan.models["fraud"].label.corrections == "first" and not statuses["corrected"] and len(delays) > in_time
    promoted = [event for event in history.deployments if event["event"] == "promoted" and event["model"] == "fraud"]
    assert promoted and plan.models["fraud"].label.on_timeout == "negative"
    served = outcomes[(outcomes["deployment_sequence"] >= promoted[0]["sequence"]) & outcomes["status"].isin(["labelled", "timeout"])]
    assert served["label"].notna().all() and 0.01 < served["label"].mean() < 0.1
    assert roc_auc(served["label"].to_numpy(float), served["score"].to_numpy(float)) > 0.65, "also while the pattern changes"
