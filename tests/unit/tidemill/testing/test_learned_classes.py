"""Classes that are learned, through all stages in memory: what each version answers, a longer list of classes, a roll-back."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.kind_events import LEARNED_CLASSES, SPECIES, START, Event, flowers, species_model, species_scores
from tests.lifecycle_events import publish_event
from tidemill.testing import ApplicationRun
from tidemill.testing.application_run import Results

FOUR = (*SPECIES, "orchid")
ASKED = 120
SWITCHES = {30: ("v1", SPECIES), 60: ("v2", FOUR), 90: ("v1", SPECIES)}
"""By the number of the request before which a version begins to serve; the last time it comes back."""


def named() -> tuple[list[Event], list[Event]]:
    """Flowers of three species; every seventh label names a fourth, one a fifth that no version knows, and some are no class at all."""
    asked, labels = flowers(ASKED)
    for i, one in enumerate(labels):
        if i % 7 == 3:
            one["species"] = "orchid"
    labels[5]["species"], labels[8]["species"], labels[11]["species"] = "lily", "", None
    labels.append({"naming_id": "early", "flower_id": "f110", "named_at": START + timedelta(hours=1), "species": "orchid"})
    return asked, labels


@pytest.fixture(scope="module")
def season() -> tuple[list[Event], list[Event], Results]:
    asked, labels = named()
    events = sorted(
        [(one["seen_at"], "flowers", one) for one in asked] + [(one["named_at"], "namings", one) for one in labels], key=lambda one: one[0]
    )
    with ApplicationRun(LEARNED_CLASSES, START.isoformat()) as run:
        requests = 0
        for at, stream, event in events:
            if stream == "flowers" and requests in SWITCHES:
                run.run()
                version, classes = SWITCHES[requests]
                event_name = "rolled_back" if requests == 90 else "promoted"
                publish_event(run, "species", species_model(version, classes=classes), event_name)
            requests += stream == "flowers"
            run.clock.set(at.isoformat())
            run.publish(stream, event)
        run.clock.set((events[-1][0] + timedelta(days=30)).isoformat())
        return asked, labels, run.run()


def classes_of(number: int) -> tuple[str, ...]:
    return next((classes for first, (_, classes) in reversed(SWITCHES.items()) if number >= first), ())


def test_no_class_is_answered_before_the_first_version(season: tuple[list[Event], list[Event], Results]) -> None:
    for one in season[2].predictions[:30]:
        assert (one["variant"], one["reason"], one["model_version"]) == ("default", "no_model", "default")
        assert (one["score"], one["predicted"], one["scores"], one["predicted_label"]) == (0.0, -1, None, None)


def test_each_version_answers_with_its_own_classes(season: tuple[list[Event], list[Event], Results]) -> None:
    asked, _, results = season
    rows = np.array([[one["petal_length"], one["sepal_length"]] for one in asked])
    for number, one in enumerate(results.predictions):
        classes = classes_of(number)
        if not classes:
            continue
        expected = species_scores(rows[number : number + 1], len(classes))[0]
        assert [name for name, _ in one["scores"]] == list(classes)
        assert [score for _, score in one["scores"]] == pytest.approx(expected.tolist(), abs=1e-6)
        assert (one["predicted_label"], one["predicted"]) == (classes[int(expected.argmax())], int(expected.argmax()))
    assert "orchid" in {one["predicted_label"] for one in results.predictions[60:90]}


def test_every_label_is_kept_by_name_and_has_the_number_that_the_version_which_answered_gives_it(
    season: tuple[list[Event], list[Event], Results],
) -> None:
    asked, labels, results = season
    number = {one["flower_id"]: i for i, one in enumerate(asked)}
    served = {one["request_id"]: one for one in results.predictions}
    truths: dict[str, list[str]] = {}
    for one in sorted(labels, key=lambda one: one["named_at"]):
        if one["species"]:
            truths.setdefault(one["flower_id"], []).append(one["species"])
    seen: dict[str, list[str]] = {}
    for one in results.outcomes:
        answer = served[one["request_id"]]
        for name in ("score", "scores", "predicted", "predicted_label", "model_version", "variant"):
            assert one[name] == answer[name], name
        if one["status"] == "timeout":
            assert (one["label"], one["label_class"]) == (None, None)
            continue
        seen.setdefault(one["request_id"], []).append(one["label_class"])
        classes = classes_of(number[one["request_id"]])
        assert one["label"] == (classes.index(one["label_class"]) if one["label_class"] in classes else -1)
    assert seen == truths and seen["f110"][0] == "orchid" and "lily" in {name for names in seen.values() for name in names}
    (letter,) = results.rejected
    assert "expected the name of a class, of 1 to 200 characters, as the label of species, found ''" in letter["detail"]


@pytest.mark.parametrize("given", [None, "setosa", {"setosa": 1.0}])
def test_a_default_names_a_class_before_anybody_knows_one(tmp_path: Any, given: Any) -> None:
    text = (LEARNED_CLASSES / "app.yaml").read_text()
    (tmp_path / "schemas").symlink_to(LEARNED_CLASSES / "schemas")
    (tmp_path / "app.yaml").write_text(
        text if given is None else text.replace("classes: learned", f"classes: learned\n    fallback: {{default: {given}}}")
    )
    if given is None:
        ApplicationRun(tmp_path, START.isoformat()).close()
        return
    with pytest.raises(ValueError, match="expected no default: no class is answered without a model"):
        ApplicationRun(tmp_path, START.isoformat())
