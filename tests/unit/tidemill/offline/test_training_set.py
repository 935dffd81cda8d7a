"""Training sets from an archive that the archive's own code wrote."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from tests.unit.services.archive.test_task import FLUSH_MS, STEPS, World
from tests.unit.services.drift.stream import START, season
from tidemill.offline.training_set import read_training_set
from tidemill.services.cli.__main__ import app
from tidemill.shared.lake.names import VECTORS
from tidemill.shared.runner.task import StepContext

runner = CliRunner()


def test_a_training_set_is_a_file_with_its_version(tmp_path: Path) -> None:
    world = World(tmp_path)
    task, begin = world.task(), dict[str, int]()
    for step in range(STEPS):
        task.process(world.inputs(step, begin), StepContext(now_ms=step * FLUSH_MS))
    task.process([], StepContext(now_ms=STEPS * FLUSH_MS))
    before, out = START + 2 * 86_400_000, tmp_path / "set.parquet"
    words = ["training-set", tmp_path, "sent_back", "--lake", tmp_path / "lake", "--before", before, "--out", out]
    done = runner.invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    printed = done.output
    made = pq.read_table(out)
    times = [[int(t) for t in made.column(name).to_pylist()] for name in ("_request_time", "_label_time")]
    known = [row for row in season(days=4, per_day=60, promoted=2, drifting=3).outcomes if row["journal_time"] < before and row["label"] is not None]
    assert made.num_rows == len(known) > 0 and max(map(max, times)) < before
    labels = {row["request_journal_offset"]: row["label"] for row in known}
    assert dict(zip(made.column("_journal_offset").to_pylist(), made.column("_label").to_pylist(), strict=True)) == labels
    again = read_training_set(world.plan, "sent_back", world.lake, before)
    assert again.rows.to_pandas().equals(made.to_pandas())
    for name, value in again.version.items():
        assert f"{name} {value}" in printed
        assert made.schema.metadata[name.encode()].decode() == value
    end = runner.invoke(app, ["training-set", str(tmp_path), "sent_back", "--lake", str(tmp_path / "lake"), "--out", str(tmp_path / "all.parquet")])
    assert end.exit_code == 0, (end.output, end.exception)
    whole = [row for row in season(days=4, per_day=60, promoted=2, drifting=3).outcomes if row["label"] is not None]
    assert pq.read_table(tmp_path / "all.parquet").num_rows == len(whole) > len(known), "up to the end of the archive"
    # Requests that came a year later, as the load at the end of a demo does, have told nothing: folds are cut where outcomes are.
    late = world.lake.dataset(VECTORS).to_table().slice(0, 1).to_pylist()[0]
    late["_journal_time"] += timedelta(days=365)
    world.lake.append(VECTORS, pa.Table.from_pylist([late], schema=world.lake.dataset(VECTORS).schema), "late", np.array([0]))
    newest = max(row["journal_time"] for row in season(days=4, per_day=60, promoted=2, drifting=3).outcomes if row["model"] == "sent_back")
    silent = read_training_set(world.plan, "sent_back", world.lake)
    assert silent.version["before_ms"] == str(newest + 1) and silent.rows.num_rows == len(whole)
    wrong = runner.invoke(app, ["training-set", str(tmp_path), "none", "--lake", str(tmp_path / "lake"), "--before", "0", "--out", str(out)])
    assert wrong.exit_code == 1 and "sent_back" in wrong.output
