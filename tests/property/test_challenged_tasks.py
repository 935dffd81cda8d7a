"""While a challenger is tried: every stage that carries the pair gives the same bytes one by one, in any portions and over restarts.

What the stages carry is held against a loop over the requests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.long_forms import shortened
from tests.models import artifact
from tests.property.season import APPLICATION, CASES, Season, outcome_of
from tests.unit.services.drift.stream import START
from tests.unit.shared.models.test_assignment import hash_of
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.models.signature import Column

pytestmark = pytest.mark.lasts(10)

SHARE = 0.4
COLUMNS = tuple(Column(name=name, type="double") for name in ("amount", "weight"))
CHAIN = ("ingestion", "features", "scoring", "outcomes", "explanations", "drift", "archive")
CARRYING = ("scoring", "outcomes", "explanations", "drift", "archive")


class Challenged(Season):
    """The shop's season under a champion and a canary, from its first request on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APPLICATION.replace("    fallback:", "    slices: [country]\n    fallback:"), CHAIN)

    def deploy(self) -> None:
        """Publish a champion and a canary."""
        codec = message_codec(self.registry, self.plan.topics.deployments, "deployment")
        champion = self.artifacts.put(artifact("lightgbm", COLUMNS, model="sent_back")[0].to_bytes())
        self.challenger = self.artifacts.put(artifact("logistic_regression", COLUMNS, "v2", model="sent_back")[0].to_bytes())
        for sequence, (event, version, address) in enumerate((("promoted", "v1", champion), ("ab", "v2", self.challenger))):
            record = {
                "sequence": sequence, "parent": sequence - 1, "decision_id": "d", "model": "sent_back", "event": event, "version": version,
                "journal_partition": 0, "journal_offset": 0, "journal_time": START, "artifact_sha256": address, "artifact_uri": "", "share": SHARE,
                "threshold": 0.4, "figures": {}, "details": {}, "reason": "",
            }  # fmt: skip
            self.logs.append(Emission(self.plan.topics.deployments, 0, [b"sent_back"], [codec.encode(record)], np.array([START])), None)

    def records(self, topic: str, name: str) -> list[tuple[bytes | None, dict[str, Any]]]:
        """Return keys and records of a topic."""
        codec = message_codec(self.registry, topic, name)
        return [(key, codec.decode(value or b"")) for key, value, _ in self.written(topic)]

    def written(self, topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
        reader = self.logs.reader()
        runs = list(reader.read(TopicPartition(topic, 0), 0, None))
        return [row for run in runs for row in zip(run.keys, run.values, run.timestamps_ms.tolist(), strict=True)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Challenged]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidemill.services.drift.task._SNAPSHOT_ROWS", 60)
        yield Challenged(tmp_path_factory.mktemp("challenged"))


def test_every_request_is_answered_by_whom_its_hash_says_and_its_pair_reaches_its_outcome(world: Challenged) -> None:
    topics = world.plan.topics
    pairs = {record["request_id"]: record for _, record in world.records(topics.shadow_scores, "shadow-score")}
    answers = world.records(topics.predictions, "prediction")
    assert len(answers) == len(pairs) > 150
    for key, answer in answers:
        drawn = (hash_of(key or b"", world.challenger) >> 11) / 2**53 < SHARE
        pair = pairs[answer["request_id"]]
        assert answer["variant"] == ("canary" if drawn else "champion") == pair["variant"]
        assert answer["score"] == pair["challenger_score" if drawn else "champion_score"]
    outcomes = [record for _, record in world.records(topics.outcomes, "outcome") if record["status"] != "unmatched"]
    assert len(outcomes) >= len(answers)
    for outcome in outcomes:
        pair = pairs[outcome["request_id"]]
        own, other = ("challenger", "champion") if outcome["variant"] == "canary" else ("champion", "challenger")
        for name in ("version", "sequence", "score", "predicted"):
            assert outcome[f"other_{name}"] == pair[f"{other}_{name}"]
        assert (outcome["model_version"], outcome["score"]) == (pair[f"{own}_version"], pair[f"{own}_score"])
        assert outcome["share"] == pair["share"] == SHARE
        assert (outcome["stage"], outcome["draw"]) == (pair["stage"], pair["draw"]) and pair["stage"] == "ab"
        assert outcome["slices"] == pair["slices"] and set(outcome["slices"]) == {"country"}
    assert {outcome["status"] for outcome in outcomes} == {"labelled", "timeout"}


def test_every_answer_is_explained_once_by_the_version_that_gave_it(world: Challenged) -> None:
    answers = world.records(world.plan.topics.predictions, "prediction")
    explanations = world.records(world.plan.topics.explanations, "explanation")
    assert [key for key, _ in explanations] == [key for key, _ in answers]
    for (_, answer), (_, one) in zip(answers, explanations, strict=True):
        shared = ("request_id", "model_version", "variant", "journal_offset", "score", "predicted", "deployment_sequence")
        assert {name: one[name] for name in shared} == {name: answer[name] for name in shared}
        assert (one["not_explained"], one["link"]) == (None, "logit")
        assert one["method"] == {"champion": "tree", "canary": "linear"}[answer["variant"]]
        assert len(one["contributions"]) == 2 and one["rest_features"] == 0
        total = one["base"] + sum(part["contribution"] for part in one["contributions"]) + one["rest"]
        assert abs(total - np.log(one["score"] / (1 - one["score"]))) <= 1e-6


@pytest.mark.parametrize("stage", CARRYING)
def test_one_by_one_is_any_batching(world: Challenged, stage: str) -> None:
    driver = world.driver(stage, seed=2, portion=1)
    driver.run()
    assert outcome_of(driver) == world.whole[stage]


@pytest.mark.parametrize("seed", shortened([3, 4], 1))
@pytest.mark.parametrize("stage", CARRYING)
def test_a_restart_is_no_restart(world: Challenged, stage: str, seed: int) -> None:
    driver = world.driver(stage, seed, portion=15, restart=0.5, rebuild=0.2)
    driver.run()
    assert driver.restarts
    assert outcome_of(driver) == world.whole[stage]


def test_the_cases_are_those_of_all_tasks() -> None:
    assert set(CHAIN) | {"control", "retraining"} == set(CASES)
