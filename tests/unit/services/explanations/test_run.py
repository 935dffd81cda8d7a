"""A run with explanations, in one process: each prediction is explained, as `tidemill explain` explains it."""

from pathlib import Path

import pytest
from scipy.special import logit

from tests.models import artifact
from tests.unit.tidemill.planning.one_process import APP, SECOND, OneProcess, Trainer, write
from tidemill.offline.explain import explain_request
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.signature import Column

EXPLAIN = "    explain: {top: 2}\n    retraining:"
ASKING = APP.replace("    retraining:", EXPLAIN) + SECOND.replace("    retraining:", EXPLAIN)


class TreesTrainer(Trainer):
    """One of its models is a forest, of the other nobody knows what its graph adds up."""

    def made(self, model: str, version: str) -> Artifact:
        if model == "heat":
            return super().made(model, version)
        return artifact("lightgbm", tuple(Column(name=name, type="double") for name in ("f0", "f1")), version, model=model)[0]


class Run(OneProcess):
    """A run over a day."""

    trainer = TreesTrainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("explained")
    made = Run(folder)
    made.start(write(folder / "application", ASKING))
    made.publish(110)
    made.stages.write_out()
    return made


def test_each_prediction_is_explained_once(run: Run) -> None:
    topics = run.plan.topics
    explanations = run.records(topics.explanations, "explanation")
    shared = ("request_id", "model", "model_version", "variant", "score")
    answers = run.records(topics.predictions, "prediction")
    assert [[one[name] for name in shared] for one in explanations] == [[one[name] for name in shared] for one in answers]
    explained = [one for one in explanations if one["not_explained"] is None]
    assert len(explained) > 20 and {one["model"] for one in explained} == {"faulty"}
    for one in explained:
        sizes = [abs(part["contribution"]) for part in one["contributions"]]
        assert sizes == sorted(sizes, reverse=True) and len(sizes) == 2
        total = one["base"] + sum(part["contribution"] for part in one["contributions"]) + one["rest"]
        assert total == pytest.approx(logit(one["score"]), abs=1e-6)


def test_what_is_not_explained_says_why(run: Run) -> None:
    explanations = run.records(run.plan.topics.explanations, "explanation")
    why = {(one["model"], one["variant"]): one["not_explained"] for one in explanations}
    assert why == {
        ("faulty", "default"): "fallback", ("heat", "default"): "fallback", ("faulty", "champion"): None, ("heat", "champion"): "graph",
    }  # fmt: skip
    empty: dict[str, object] = {"contributions": [], "base": None, "rest": None, "method": None, "link": None, "rest_features": 0}
    assert all(one.items() >= empty.items() for one in explanations if one["not_explained"] is not None)


def test_the_command_says_the_same_bit_for_bit(run: Run) -> None:
    lake, store = Lake(str(run.folder / "lake"), run.plan.application.app), ArtifactStore(run.artifacts)
    explanations = [one for one in run.records(run.plan.topics.explanations, "explanation") if one["not_explained"] is None]
    for one in explanations[-30::6]:
        (explanation,) = explain_request(run.plan, lake, store, one["request_id"], "faulty")
        assert explanation.reproduced and (explanation.base, explanation.method) == (one["base"], one["method"])
        told = [(part["feature"], part["number"], part["contribution"]) for part in one["contributions"]]
        assert told == [(share.feature, share.value, share.contribution) for share in explanation.shares[:2]]
