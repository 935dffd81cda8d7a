"""Three classes and numbers through all stages in memory: what is served and what comes out is what plain Python computes."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.error_models import LARGE, SMALL
from tests.kind_events import (
    AMOUNTS,
    SPECIES,
    START,
    THREE_CLASSES,
    WEIGHT_BOUND,
    Event,
    flowers,
    parcels,
    species_model,
    species_scores,
    weight_model,
)
from tidemill.shared.models.artifacts import Artifact
from tidemill.testing import ApplicationRun
from tidemill.testing.application_run import Results

DEPLOYED = 40


def through(application: Any, streams: dict[str, list[Event]], model: str, made: Artifact, time: dict[str, str]) -> Results:
    """Take events through in the order of their times; a model is deployed before the 40th request."""
    asked = next(iter(streams))
    events = sorted(((event[time[name]], name, event) for name, rows in streams.items() for event in rows), key=lambda one: one[0])
    with ApplicationRun(application, START.isoformat()) as run:
        requests = 0
        for at, name, event in events:
            if name == asked and requests == DEPLOYED:
                run.run()
                run.deploy(model, made)
            requests += name == asked
            run.clock.set(at.isoformat())
            run.publish(name, event)
        run.clock.set((events[-1][0] + timedelta(days=30)).isoformat())
        return run.run()


@pytest.fixture(scope="module")
def species() -> tuple[list[Event], list[Event], Results]:
    asked, named = flowers(120)
    # One that is no class, one class that nobody has declared, one that says nothing, one for nobody.
    at = START + timedelta(days=1)
    odd = [
        {"naming_id": f"odd-{i}", "flower_id": flower, "named_at": at, "species": said}
        for i, (flower, said) in enumerate([("f11", "Setosa"), ("f22", "orchid"), ("f33", None), ("f9999", "setosa")])
    ]
    times = {"flowers": "seen_at", "namings": "named_at"}
    return asked, named + odd, through(THREE_CLASSES, {"flowers": asked, "namings": named + odd}, "species", species_model(), times)


def test_every_flower_has_a_probability_for_each_class(species: tuple[list[Event], list[Event], Results]) -> None:
    asked, _, results = species
    assert [one["request_id"] for one in results.predictions] == [one["flower_id"] for one in asked]
    expected = species_scores(np.array([[one["petal_length"], one["sepal_length"]] for one in asked]))
    for i, one in enumerate(results.predictions):
        scores = dict(one["scores"])
        assert list(scores) == list(SPECIES) and (one["lower"], one["upper"]) == (None, None)
        if i < DEPLOYED:
            assert list(scores.values()) == [0.25, 0.5, 0.25]
            assert (one["variant"], one["reason"], one["model_version"]) == ("default", "no_model", "default")
        else:
            assert list(scores.values()) == pytest.approx(expected[i], abs=1e-6)
            assert (one["variant"], one["reason"], one["model_version"]) == ("champion", None, "v1")
        likeliest = max(SPECIES, key=lambda name: scores[name])
        assert (one["predicted"], one["predicted_label"], one["score"]) == (SPECIES.index(likeliest), likeliest, scores[likeliest])
    assert {one["predicted_label"] for one in results.predictions[DEPLOYED:]} == set(SPECIES)


def test_outcomes_say_what_was_served_and_which_class_was_true(species: tuple[list[Event], list[Event], Results]) -> None:
    _, named, results = species
    served = {one["request_id"]: one for one in results.predictions}
    truths: dict[str, list[str]] = {}
    for one in named:
        if one["species"] in SPECIES:
            truths.setdefault(one["flower_id"], []).append(one["species"])
    answers: dict[str, list[str]] = {}
    for one in results.outcomes:
        if one["status"] == "unmatched":
            assert (one["request_id"], one["label_class"], one["scores"], one["predicted_label"]) == ("f9999", "setosa", None, None)
            continue
        answer = served[one["request_id"]]
        for name in ("score", "scores", "predicted", "predicted_label", "lower", "upper", "model_version", "variant"):
            assert one[name] == answer[name], name
        if one["status"] == "timeout":
            assert (one["label"], one["label_class"]) == (None, None) and one["request_id"] not in truths
        else:
            assert one["status"] == ("corrected" if one["revision"] else "labelled")
            assert one["label"] == SPECIES.index(one["label_class"])
            answers.setdefault(one["request_id"], []).append(one["label_class"])
    assert answers == {flower: names for flower, names in truths.items() if flower != "f9999"}
    assert sum(one["status"] == "corrected" for one in results.outcomes) > 3


def test_what_is_no_class_is_a_dead_letter_that_says_what_was_expected(species: tuple[list[Event], list[Event], Results]) -> None:
    letters = {one["detail"] for one in species[2].rejected}
    expected = "expected one of 'setosa', 'versicolor', 'virginica' as the label of species, found {!r}; the record is in the journal, without it"
    assert letters == {expected.format("Setosa"), expected.format("orchid")}
    assert {(one["stage"], one["reason"]) for one in species[2].rejected} == {("outcomes", "invalid_label")}


def test_each_class_has_its_rate_as_a_feature(species: tuple[list[Event], list[Event], Results]) -> None:
    vector = species[2].vectors[-1]
    rates = [vector[f"garden_species__all_{name}_50events"] for name in SPECIES]
    assert sum(rates) == pytest.approx(1.0) and min(rates) > 0


def test_numbers_have_intervals_and_outcomes_that_say_them() -> None:
    asked, weighed = parcels(100)
    odd = [{"weighing_id": "odd", "parcel_id": "p11", "weighed_at": START + timedelta(days=1), "weight": -2.5}]
    times = {"parcels": "shipped_at", "weighings": "weighed_at"}
    results = through(AMOUNTS, {"parcels": asked, "weighings": weighed + odd}, "weight", weight_model(), times)
    for i, (request, one) in enumerate(zip(asked, results.predictions, strict=True)):
        assert (one["request_id"], one["scores"], one["predicted_label"], one["predicted"]) == (request["parcel_id"], None, None, 0)
        if i < DEPLOYED:
            assert (one["score"], one["lower"], one["upper"], one["variant"]) == (4.5, None, None, "default")
            assert (one["expected_error"], one["expected_squared_error"]) == (None, None)
        else:
            assert one["score"] == pytest.approx(0.6 * request["volume"] + 1.5, rel=1e-6)
            assert (one["lower"], one["upper"]) == (one["score"] - 2.0, one["score"] + 3.0)
            assert (one["expected_error"], one["expected_squared_error"]) == (SMALL if one["score"] <= WEIGHT_BOUND else LARGE)
    assert {one["expected_error"] for one in results.predictions} == {None, SMALL[0], LARGE[0]}
    served = {one["request_id"]: one for one in results.predictions}
    truths = {one["parcel_id"]: one["weight"] for one in weighed + odd}
    assert not results.rejected and len(results.outcomes) == len(asked)
    for one in results.outcomes:
        assert one["label"] == truths.get(one["request_id"]) and one["label_class"] is None
        assert [one[name] for name in ("score", "lower", "upper", "scores")] == [
            served[one["request_id"]][n] for n in ("score", "lower", "upper", "scores")
        ]


@pytest.mark.parametrize(
    "made",
    [
        species_model(classes=("setosa", "virginica", "versicolor")),
        species_model(classes=("a", "b", "c")),
        weight_model(columns=(weight_model().signature.columns[0].model_copy(update={"name": "petal_length"}),)),
    ],
    ids=["another order", "other classes", "another kind"],
)
def test_a_model_that_answers_another_question_is_not_served(made: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    with ApplicationRun(THREE_CLASSES, START.isoformat()) as run:
        run.deploy("species", made)
        run.publish("flowers", flowers(1)[0][0])
        (one,) = run.run().predictions
    assert (one["variant"], one["reason"], one["predicted_label"]) == ("default", "model_failed", "versicolor")
    (said,) = {getattr(record, "error", "") for record in caplog.records if record.message == "model cannot be served"}
    assert "expected a model of kind multiclass with the 3 classes setosa, versicolor, virginica, as the application says, found kind" in said


HOSTILE = ["x" * 200_000, "\x00", "setosa ", "SETOSA", "'; DROP", "🌸", "", "nan", "1", "setosa\n"]


def test_whatever_a_label_says_it_costs_its_own_record_only() -> None:
    asked, _ = flowers(len(HOSTILE) + 1)
    with ApplicationRun(THREE_CLASSES, START.isoformat()) as run:
        for event in asked:
            run.clock.set(event["seen_at"].isoformat())
            run.publish("flowers", event)
        for i, said in enumerate([*HOSTILE, "virginica"]):
            run.publish("namings", {"naming_id": f"n{i}", "flower_id": f"f{i}", "named_at": run.clock.now(), "species": said})
        for i, other in enumerate([5, True, ["setosa"], {"species": "setosa"}]):
            run.publish("namings", {"naming_id": f"other-{i}", "flower_id": "f0", "named_at": run.clock.now(), "species": other})
        results = run.run()
    letters = [one["detail"] for one in results.rejected if one["stage"] == "outcomes"]
    assert len(letters) == len(HOSTILE) and len(results.rejected) == len(HOSTILE) + 4
    for said, letter in zip(HOSTILE, letters, strict=True):
        assert letter.startswith("expected one of 'setosa', 'versicolor', 'virginica' as the label of species, found ") and len(letter) <= 500
        assert len(said) > 2_000 or repr(said) in letter
    assert [(one["request_id"], one["label_class"]) for one in results.outcomes] == [(f"f{len(HOSTILE)}", "virginica")]
