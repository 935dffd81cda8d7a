import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import artifact
from tidemill.shared.models.artifacts import Artifact, ArtifactError, ArtifactStore
from tidemill.shared.models.deployments import Lifecycles
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column, Signature

COLUMNS = tuple(Column(name=f"x{i}", type="double") for i in range(5))


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_served_scores_are_the_trainers(family: str) -> None:
    made, fresh, scores = artifact(family, COLUMNS)
    assert np.abs(OnnxScorer(made).score_matrix(fresh) - scores).max() < 1e-6


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_the_same_training_gives_the_same_bytes(family: str) -> None:
    assert artifact(family, COLUMNS)[0].to_bytes() == artifact(family, COLUMNS)[0].to_bytes()


SCORERS = {family: OnnxScorer(artifact(family, COLUMNS)[0]) for family in ("lightgbm", "logistic_regression")}
FRESH = artifact("lightgbm", COLUMNS)[1]


@settings(max_examples=30, deadline=None)
@given(family=st.sampled_from(sorted(SCORERS)), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_any_batching_gives_the_bits_of_one_by_one(family: str, cuts: list[int]) -> None:
    scorer = SCORERS[family]
    one_by_one = np.concatenate([scorer.score_matrix(FRESH[i : i + 1]) for i in range(len(FRESH))])
    edges = [0, *sorted(cuts), len(FRESH)]
    batched = np.concatenate([scorer.score_matrix(FRESH[a:b]) for a, b in pairwise(edges)])
    assert batched.tobytes() == one_by_one.tobytes()


def test_categories_become_their_codes() -> None:
    signature = Signature(
        model="m", version="v", family="f", threshold=0.5, parity_rows=(), parity_scores=(),
        columns=(Column(name="c", type="string", codes={"a": 0.25, "b": 2.0}, unknown=-1.0), Column(name="d", type="double")),
    )  # fmt: skip
    batch = pa.RecordBatch.from_pydict({"d": pa.array([1.5, None, 3, 4]), "c": ["a", "b", "zz", None]})
    assert np.array_equal(signature.encode(batch), np.array([[0.25, 1.5], [2, np.nan], [-1, 3], [np.nan, 4]], np.float32), equal_nan=True)
    with pytest.raises(KeyError, match="expects the feature d"):
        signature.encode(batch.select(["c"]))


def test_the_store_gives_back_what_was_put_and_nothing_else(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    content = artifact("logistic_regression", COLUMNS)[0].to_bytes()
    address = store.put(content)
    assert store.put(content) == address
    assert Artifact.from_bytes(store.get(address)).to_bytes() == content
    (tmp_path / address[:2] / address).write_bytes(content + b"!")
    with pytest.raises(ArtifactError, match="changed or damaged"):
        store.get(address)
    assert store.put(content) == address and store.get(address) == content, "putting it again repairs it"
    with pytest.raises(ArtifactError, match="no artifact"):
        store.get("00" * 32)


def test_an_artifact_is_synced_before_it_has_its_name_and_the_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(number: int) -> None:
        events.append(("sync", str(Path(f"/proc/self/fd/{number}").readlink())))
        sync(number)

    def note_name(part: Path, path: Path) -> Path:
        events.append(("name", str(path)))
        return replace(part, path)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    address = ArtifactStore(str(tmp_path)).put(b"content")
    folder = tmp_path / address[:2]
    assert [kind for kind, _ in events] == ["sync", "name", "sync", "sync"]
    assert events[0][1].startswith(f"{folder}/{address}.") and events[1:3] == [("name", f"{folder}/{address}"), ("sync", str(folder))]
    assert [file.name for file in folder.iterdir()] == [address]


def test_a_full_disk_leaves_nothing_and_can_be_retried(tmp_path: Path) -> None:
    script = """if True:
        import resource, sys
        from tidemill.shared.models.artifacts import ArtifactStore
        from tidemill.shared.log.errors import TransientError
        store, free = ArtifactStore(sys.argv[1]), resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, free))
        try:
            store.put(bytes(5_000))
        except TransientError:
            print("transient")
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, free))
        print(len(store.get(store.put(bytes(5_000)))))
    """
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[4]
    )
    assert process.stdout.split() == ["transient", "5000"], process.stderr
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"parity_scores": (0.1,) * 8}, "parity rows differ"), ({"parity_rows": (), "parity_scores": ()}, "expected parity rows")],
)
def test_a_model_that_does_not_do_what_it_says_is_not_served(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        OnnxScorer(artifact("logistic_regression", COLUMNS, **change)[0])


def test_broken_files_are_refused() -> None:
    with pytest.raises(ArtifactError, match="TMA1"):
        Artifact.from_bytes(b"nonsense")
    made = artifact("logistic_regression", COLUMNS)[0]
    with pytest.raises(ArtifactError, match="does not load"):
        OnnxScorer(Artifact(made.signature, made.onnx[:-20]))


def event(sequence: int, kind: str, version: str, parent: int | None = None) -> dict[str, Any]:
    return {
        "sequence": sequence, "parent": sequence - 1 if parent is None else parent, "model": "m", "event": kind, "version": version,
        "artifact_sha256": version * 2, "threshold": 0.5,
    }  # fmt: skip


def test_the_fold_follows_one_line_of_decisions() -> None:
    state = Lifecycles()
    for happened in (event(0, "registered", "a"), event(1, "promoted", "a"), event(2, "gate_refused", "b"), event(3, "promoted", "c")):
        state = state.apply(happened)
    champion = state.of("m").champion
    assert champion is not None and champion.version == "c"
    zombie = state.apply(event(3, "promoted", "z", parent=2))
    assert zombie.of("m").champion == champion and zombie.of("m").ignored == 1
    back = state.apply(event(4, "rolled_back", "a")).of("m")
    assert back.champion is not None and back.champion.version == "a" and back.head == 4
    stranger = state.apply(event(4, "rolled_back", "nobody")).of("m")
    assert (stranger.champion, stranger.head, stranger.ignored) == (champion, 3, 1)


def test_a_row_the_graph_cannot_answer_costs_no_other_row_its_score(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = OnnxScorer(artifact("logistic_regression", COLUMNS)[0])
    rows = FRESH[:70].copy()
    expected = scorer.score_matrix(rows)
    rows[40, 0] = 1e30

    class Fragile:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, outputs: Any, inputs: dict[str, Any]) -> Any:
            if (next(iter(inputs.values())) > 1e29).any():
                raise RuntimeError("overflow")
            return self.session.run(outputs, inputs)

    monkeypatch.setattr(scorer._engine, "_session", Fragile(scorer._engine._session))  # type: ignore[union-attr]  # the forest is served by onnxruntime here
    scores = scorer.score_matrix(rows)
    assert np.isnan(scores[40])
    assert np.delete(scores, 40).tobytes() == np.delete(expected, 40).tobytes()
