"""The first example of each command on the archive, run as it stands there: on the last run, to its end, without a server."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.help_examples import commands, examples
from tidemill.services.archive.task import ArchiveTask, task_inputs
from tidemill.services.cli.__main__ import app
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import StepContext
from tidemill.testing import ApplicationRun

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"
RUN = Path(".tidemill/up/payments")
EXAMPLES = {" ".join(path): examples(command)[0] for path, command in commands().items()}
SERVERLESS = ("check", "schema", "doctor")


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A folder as after `tidemill up examples/payments`: 30 payments, three of them reported, all archived; returns how many have a label."""
    shutil.copytree(PAYMENTS, tmp_path / "examples" / "payments")
    monkeypatch.chdir(tmp_path)
    with ApplicationRun("examples/payments") as run:
        for number in range(30):
            fields = {"payment_id": name_of(number), "account_id": f"a{number % 4}", "merchant_id": "m", "amount": 5.0 + number}
            run.publish("payments", fields | {"currency": "EUR", "country": "DE", "event_time": run.clock.now()})
            run.clock.advance("7m")
        for number in (3, 14, 25):
            run.publish("chargebacks", {"payment_id": name_of(number), "account_id": f"a{number % 4}", "reported_at": run.clock.now()})
        run.clock.advance("3d")
        labels = len(run.run().outcomes)
        archive = ArchiveTask(run.plan, run.registry, Lake(str(RUN / "lake"), "payments"), 0, flush_rows=1)
        archive.process(written(run), StepContext(now_ms=0))
        archive.process([], StepContext(now_ms=10**9))
    (RUN / "instance.json").write_text('{"application": "examples/payments", "clock": "live", "addresses": {}, "artifacts": "artifacts"}')
    return labels


def name_of(number: int) -> str:
    """As the payments' generator names them."""
    return f"p7-{number:09d}"


def written(run: ApplicationRun) -> list[Records]:
    """What the archive reads, whole."""
    logs = [run.broker.log(TopicPartition(topic, 0)) for topic in task_inputs(run.plan).partitioned]
    return [log.read(0, log.end, 10**9)[0] for log in logs]


def example(name: str) -> str:
    done = CliRunner().invoke(app, EXAMPLES[name])
    assert done.exit_code == 0, (EXAMPLES[name], done.output, done.exception)
    return done.output


def test_commands_on_the_archive_work_on_the_last_run_to_its_end(archived: int) -> None:
    for name in ("backfill", "training-set", "skew", "switches"):
        assert f"run: {RUN}" in example(name).splitlines(), name
    vectors, labelled = pl.read_parquet("vectors.parquet"), pl.read_parquet("fraud.parquet")
    assert vectors["_request_id"].to_list() == [name_of(number) for number in range(30)]
    assert archived == len(labelled) == 30 and labelled["_label"].sum() == 3


def test_a_request_of_the_last_run_is_traced(archived: int) -> None:
    said = example("trace")
    assert f"run: {RUN}" in said.splitlines()
    assert "Request p7-000000003" in said and "outcome at journal 0@" in said and "status labelled, label 1" in said


@pytest.mark.parametrize("name", SERVERLESS)
def test_commands_that_need_no_run_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PAYMENTS.parents[1])
    assert example(name)
