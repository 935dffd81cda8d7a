"""A traced request is what the files, the predictions and the trainings say of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from campaigns.simulate.world import FOLDER
from tests.unit.tidemill.backtest.test_backtest import PLAN, predictions, run, shop_files
from tidemill.offline.explain import explain_request
from tidemill.offline.trace import ModelTrace, UnknownRequestError, _has_learned, _was_judged, trace_request
from tidemill.services.cli.__main__ import app
from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split
from tidemill.services.scoring.domain.challengers import SHADOW_SCORES as SHADOW_SCORES_SCHEMA
from tidemill.shared.lake.names import SHADOW_SCORES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import Artifact, ArtifactStore


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shop's files and what a backtest of them has kept."""
    folder = tmp_path_factory.mktemp("traced")
    result = run(folder / "kept", shop_files(folder))
    # The seeded trainer's artifacts do not bear the names of its versions.
    store = ArtifactStore(str(folder / "kept" / "artifacts"))
    for event in result.seen.deployments:
        if event["event"] in ("promoted", "shadow", "canary"):
            made = Artifact.from_bytes(store.get(event["artifact_sha256"]))
            store.put(replace(made, signature=made.signature.model_copy(update={"version": event["version"]})).to_bytes())
    return folder


def lake_of(place: Path) -> Lake:
    return Lake(str(place / "kept" / "lake"), PLAN.application.app)


def test_a_request_is_followed_from_its_file_to_its_label(place: Path) -> None:
    orders, rows = pd.read_csv(place / "orders.csv").set_index("order_id"), predictions(place / "kept").set_index("event_id")
    verdicts = pd.read_json(place / "judged.jsonl", lines=True).set_index("order_id")
    store, lake = ArtifactStore(str(place / "kept" / "artifacts")), lake_of(place)
    versions = set()
    for identity in (orders.index[0], *orders.index[[-40, -25]], verdicts.index[5]):
        trace = trace_request(PLAN, lake, store, identity)
        (answer,) = trace.predictions
        assert (answer["score"], answer["model_version"]) == (rows.loc[identity, "score"], rows.loc[identity, "model_version"])
        assert trace.asking.fields["order_id"] == identity and trace.asking.journal_time_ms == answer["journal_time"]
        assert trace.asking.fields["amount"] == orders.loc[identity, "amount"]
        assert [one.version for one in trace.served_by] == [answer["model_version"]] * (answer["variant"] != "default")
        (outcome,) = trace.outcomes
        assert outcome["label"] == float(verdicts["bad"].get(identity, 0.0))
        for feature in trace.features:
            made = feature.made_of
            assert made is None or all(record.offset <= trace.asking.offset for record in made.newest)
        versions.add(answer["model_version"])
    assert len(versions) > 1


def test_what_is_no_request_is_said(place: Path) -> None:
    with pytest.raises(UnknownRequestError, match=r"expected the id of a request \(orders\).*found none 'o-none'.*dead-letters list"):
        trace_request(PLAN, lake_of(place), None, "o-none")
    done = CliRunner().invoke(app, ["trace", str(FOLDER), "o-none", "--lake", str(place / "kept" / "lake")])
    assert done.exit_code == 2 and "found none 'o-none'" in done.output


def asked(lake: Path, *words: str, artifacts: Path | None = None) -> tuple[int, str]:
    """Exit code and output of a command on a lake, in one line."""
    more = ["--artifacts", str(artifacts)] if artifacts else []
    done = CliRunner().invoke(app, [words[0], str(FOLDER), *words[1:], "--lake", str(lake), *more])
    return done.exit_code, " ".join(done.output.split())


def test_an_id_that_never_was_has_no_explanation(place: Path) -> None:
    code, said = asked(place / "kept" / "lake", "explain", "o-none")
    assert code == 2 and "expected the id of a request (orders)" in said and "found none 'o-none'" in said and "dead-letters list" in said


def test_a_version_that_the_store_does_not_have_is_said(place: Path, tmp_path: Path) -> None:
    rows, lake = predictions(place / "kept").set_index("event_id"), place / "kept" / "lake"
    answered = rows[~rows["degraded"]].index[-1]
    (tmp_path / "empty").mkdir()
    code, said = asked(lake, "explain", answered, artifacts=tmp_path / "empty")
    version = rows.loc[answered, "model_version"]
    assert code == 2 and f"expected the version {version} of fraud" in said and "found none; another store: --artifacts" in said


def test_what_was_pruned_is_said(place: Path, tmp_path: Path) -> None:
    """A pruned request was called an event of a stream that no model asks; files that were gone gave the library's words alone."""
    store, ids = place / "kept" / "artifacts", predictions(place / "kept")["event_id"]
    pruned, gone = (Path(shutil.copytree(place / "kept" / "lake", tmp_path / name)) for name in ("pruned", "gone"))
    table = DeltaTable(str(pruned / PLAN.application.app / VECTORS))
    table.delete(f"_request_id != '{ids.iloc[-1]}'")
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    for command in ("trace", "explain"):
        code, said = asked(pruned, command, str(ids.iloc[40]), artifacts=store)
        assert code == 2 and f"expected the vector of the request {ids.iloc[40]}" in said and "were pruned (the oldest is of 2023-11-14" in said
    code, said = asked(pruned, "diagnose", "fraud", artifacts=store)
    assert code == 1 and "expected 200 labelled answers of fraud before" in said and "what is older was pruned or never archived" in said
    for file in (gone / PLAN.application.app / VECTORS).rglob("*.parquet"):
        file.unlink()
    for words in (("trace", str(ids.iloc[40])), ("explain", str(ids.iloc[40])), ("diagnose", "fraud")):
        code, said = asked(gone, *words, artifacts=store)
        assert code == 1 and "a file of the archive is gone: the table was pruned or vacuumed" in said and "\x1b" not in said


def test_the_command_prints_it_and_gives_it_as_json(place: Path) -> None:
    words = ["trace", str(FOLDER), "o9", "--lake", str(place / "kept" / "lake")]
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0, printed.output
    for part in ("Request o9", "Features", "Prediction of fraud", "outcome at journal 0@", "Learned by"):
        assert part in printed.output
    given = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert given["request_id"] == "o9" and len(given["features"]) == len(PLAN.features)


def test_a_request_that_something_was_tried_on_shows_who_answered_and_why(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "kept" / "lake", tmp_path / "lake")
    lake = Lake(str(tmp_path / "lake"), PLAN.application.app)
    (answer,) = trace_request(PLAN, lake, None, "o9").predictions
    where = {name: answer[name] for name in ("request_id", "model", "journal_partition", "journal_offset", "journal_time", "event_time")}
    row = dict.fromkeys(SHADOW_SCORES_SCHEMA.names) | where | {"variant": "canary", "share": 0.1, "draw": 0.0625, "challenger_score": 0.75}
    row |= {"champion_version": "v1", "champion_sequence": 3, "challenger_version": "v2", "challenger_sequence": 5, "champion_reason": "model_failed"}
    lake.append(SHADOW_SCORES, pa.Table.from_pylist([row], SHADOW_SCORES_SCHEMA), "t:0", np.array([0]))
    (shadow,) = trace_request(PLAN, lake, None, "o9").shadow_scores
    assert (shadow["variant"], shadow["draw"], shadow["challenger_score"]) == ("canary", 0.0625, 0.75)
    printed = CliRunner().invoke(app, ["trace", str(FOLDER), "o9", "--lake", str(tmp_path / "lake")])
    assert printed.exit_code == 0, printed.output
    expected = (
        "tried as a canary: champion v1 scored none (model_failed), challenger v2 scored 0.75; the key's hash 0.062500 is below the share 0.1: canary"
    )
    assert expected in printed.output
    compared = tmp_path / "compared"
    shutil.copytree(place / "kept" / "lake", compared)
    table = pa.Table.from_pylist([{**row, "stage": "ab"}], SHADOW_SCORES_SCHEMA)
    Lake(str(compared), PLAN.application.app).append(SHADOW_SCORES, table, "t:0", np.array([0]))
    printed = CliRunner().invoke(app, ["trace", str(FOLDER), "o9", "--lake", str(compared)])
    assert "tried in an A/B test: champion v1 scored none" in printed.output


def test_an_answer_is_explained_by_contributions_that_add_up_to_it(place: Path) -> None:
    rows = predictions(place / "kept").set_index("event_id")
    store, lake = ArtifactStore(str(place / "kept" / "artifacts")), lake_of(place)
    answered = rows[~rows["degraded"]].index
    for identity in answered[[-40, -1]]:
        (explanation,) = explain_request(PLAN, lake, store, identity)
        assert (explanation.model, explanation.version, explanation.score) == (
            "fraud",
            rows.loc[identity, "model_version"],
            rows.loc[identity, "score"],
        )
        assert explanation.shares and {share.feature for share in explanation.shares} <= set(PLAN.models["fraud"].features)
        assert explanation.value == pytest.approx(explanation.base + sum(share.contribution for share in explanation.shares))
        score = 1 / (1 + np.exp(-explanation.value)) if explanation.unit == "log-odds" else explanation.value
        assert explanation.reproduced and score == pytest.approx(explanation.score, abs=1e-6)
    with pytest.raises(UnknownRequestError, match=r"expected an answer of a model to .*fallback"):
        explain_request(PLAN, lake, store, rows[rows["degraded"]].index[0])
    printed = CliRunner().invoke(app, ["explain", str(FOLDER), answered[-1], "--lake", str(place / "kept" / "lake"), "--top", "1"])
    assert printed.exit_code == 0 and "together" in printed.output and "base" in printed.output
    unknown = CliRunner().invoke(app, ["explain", str(FOLDER), answered[-1], "--lake", str(place / "kept" / "lake"), "--model", "nope"])
    assert unknown.exit_code == 2 and "expected one of fraud, got nope" in unknown.output


@pytest.mark.parametrize("days", [0, 5])
def test_who_learned_from_a_request_is_who_took_its_row(days: int) -> None:
    """Held to the split that trainings cut by."""
    rng, n = np.random.default_rng(5), 600
    request = np.sort(rng.integers(0, 40 * DAY_MS, n))
    label = request + rng.integers(0, 3 * DAY_MS, n)
    rows = Examples(pa.record_batch({"row": np.arange(n)}), request, label, np.ones(n))
    split = Split.of(30 * DAY_MS, 4, 2 * DAY_MS)
    learned = set(split.learning(rows, split.end, days).features.column("row").to_pylist())
    judged = set(split.gate(rows.where(label < split.end), 0).features.column("row").to_pylist())
    details = {
        "window_days": str(days),
        "known_until_ms": str(split.end),
        "judged_from_ms": str(split.gate_start),
        "judged_until_ms": str(split.gate_end),
    }
    version = ModelTrace("m", "v", "0", "lightgbm", split.learned_until(split.end), details)
    known = [[{"model": "m", "label": 1.0, "journal_time": int(at)}] for at in label]
    assert {i for i in range(n) if _has_learned(version, int(request[i]), known[i])} == learned
    assert {i for i in range(n) if _was_judged(version, int(request[i]), known[i])} == judged
    assert learned and judged and not _has_learned(version, int(request[0]), [])
