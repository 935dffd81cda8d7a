"""What the registry is told of a training: its data, and what it is made of from the raw streams on."""

from pathlib import Path

import pytest

from tests.unit.services.retraining.test_job import DAY_MS, MODEL, World
from tidemill.services.retraining.registration import lineage_document
from tidemill.shared.application.planning import load_plan

ROOT = Path(__file__).parents[4]


def test_a_training_is_tied_to_delta_versions_range_and_content(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.archive(20)
    world.archive(30)
    told = world.train(30, "bootstrap").record
    times = world.times[world.times + 3_600_000 < world.times[0] // DAY_MS * DAY_MS + 30 * DAY_MS]
    assert told["dataset"]["name"] == f"{world.plan.application.app}.{MODEL}"
    assert [one["version"] for one in told["dataset"]["source"].values()] == ["2", "2"], "made, and appended to twice"
    assert told["dataset"]["sha256"] == told["tags"]["sha256"] and len(told["dataset"]["sha256"]) == 64
    assert told["dataset"]["profile"]["rows"] == str(len(times))
    assert (told["tags"]["requests_from_ms"], told["tags"]["requests_until_ms"]) == (str(times[0]), str(times[-1]))
    assert told["documents"]["record.json"]["figures"] == told["metrics"] and told["description"].startswith("passed: ")
    trials = told["tables"]["trials.json"]
    assert len(trials["data"]) == told["metrics"]["trials"] and {"trial", "loss", "family"} <= set(trials["columns"])
    losses = [row[trials["columns"].index("loss")] for row in trials["data"] if row[1] == "complete"]
    assert min(losses) == pytest.approx(told["metrics"]["validation_loss"])
    assert {"code", "application", "views", "seed", "owner", "decision_id", "artifact_sha256"} <= told["tags"].keys()


def test_lineage_goes_from_topics_to_features() -> None:
    plan = load_plan(ROOT / "examples" / "flights")
    document = lineage_document(plan, "late_arrival")
    assert {name: one["topic"] for name, one in document["streams"].items()} == {
        "arrivals": "flights-arrivals", "departures": "flights-departures", "weather": "flights-weather",
    }  # fmt: skip
    assert list(document["features"]) == list(plan.models["late_arrival"].features)
    late = document["features"]["origin_late__mean_1h"]
    assert late["view"] == "origin_late" and late["streams"] == ["arrivals"] and "arrivals.arr_delay" in late["columns"]
    assert document["features"]["hour"] == {"view": "", "streams": ["departures"], "columns": ["departures.local_minute"]}
    assert document["label"] == {"stream": "arrivals", "joined_by": "flight_id", "value": "arr_delay > 15"}
