"""Labels of classes that the champion of a model which learns its classes does not know: told, counted until they can be learned, and over."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.fold import DriftFold, DriftRecord
from tidemill.services.drift.domain.incident import IncidentUpdate
from tidemill.services.drift.domain.loss_verdict import LossSettings
from tidemill.services.drift.domain.rows import MergedCoordinates, OutcomeRows, PredictionRows
from tidemill.services.drift.domain.unknown_classes import UnknownClasses
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.kinds.multiclass import Multiclass

DAY, HOUR = 86_400_000, 3_600_000
THREE: Sequence[str] = ("cold", "mild", "hot")
USUAL = {"cold": 40, "mild": 40, "hot": 20}
Day = tuple[str, Sequence[str], Mapping[str, int]]
"""Version that answers, its classes, and the day's labels by class."""


def fold() -> DriftFold:
    kind = Multiclass((), is_learned=True)
    loss = LossSettings(kind=kind, max_delay_ms=DAY)
    return DriftFold([WatchSettings("heat", "readings", (), kind, 10**9, loss, label_stream="truths", labels_of_class=20)], {})


def told(days: Sequence[Day], *, restarts: bool = False) -> list[DriftRecord]:
    """What is said of days whose requests come at noon, and their labels an hour later."""
    own, said = fold(), list[DriftRecord]()
    for day, (version, classes, labels) in enumerate(days):
        names = [name for name, count in labels.items() for _ in range(count)]
        said += own.absorb(*_rows(day, version, classes, names))
        if restarts:
            state = json.loads(json.dumps(own.snapshot()))
            own = fold()
            own.load(state)
    return said + own.advance(len(days) * DAY)


def _rows(day: int, version: str, classes: Sequence[str], labels: Sequence[str]) -> tuple[MergedCoordinates, None, PredictionRows, OutcomeRows]:
    n = len(labels)
    noon, offset = day * DAY + 12 * HOUR, 10_000 * day

    def at(begin: int) -> MergedCoordinates:
        place = np.arange(begin, begin + n)
        return MergedCoordinates(place, np.full(n, noon + (HOUR if begin else 0)), np.zeros(n, np.int64), offset + place)

    def texts(value: str) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
        return np.full(n, value, dtype=object)

    nothing, sequence = np.full(n, np.nan), np.full(n, int(version[1:]))
    scores = pa.array([[(name, 1 / len(classes)) for name in classes]] * n, pa.map_(pa.string(), pa.float64()))
    predicted = PredictionRows(
        at(0), texts("heat"), texts(version), texts("champion"), sequence, np.full(n, 1 / len(classes)), np.zeros(n, np.int64),
        np.full(n, 20), scores, nothing, nothing, nothing, nothing,
    )  # fmt: skip
    outcomes = OutcomeRows(
        at(n), offset + np.arange(n), np.full(n, noon), texts("heat"), texts(version), texts("champion"), texts("labelled"), np.zeros(n, np.int64),
        np.full(n, 1 / len(classes)), np.zeros(n, np.int64), np.zeros(n), np.full(n, float(HOUR)), scores, nothing, nothing, np.ones(n),
        pa.array(labels, pa.string()),
    )  # fmt: skip
    both = [np.concatenate(pair) for pair in zip(*((one.place, one.time_ms, one.partition, one.offset) for one in (at(0), at(n))), strict=True)]
    return MergedCoordinates(*both), None, predicted, outcomes


def findings(said: Sequence[DriftRecord]) -> list[tuple[str, str, int]]:
    """Kind, class and day of what was found of classes."""
    return [(one.kind, one.subject, one.at.time_ms // DAY - 1) for one in said if isinstance(one, Finding)]


def incidents(said: Sequence[DriftRecord]) -> list[tuple[str, str, int]]:
    """Root, change and day of what was said of incidents."""
    return [(str(one.fields["root"]), str(one.fields["change"]), one.at.time_ms // DAY - 1) for one in said if isinstance(one, IncidentUpdate)]


def test_a_new_class_is_told_with_its_share_asks_when_it_can_be_learned_and_is_over_when_the_champion_knows_it() -> None:
    storm: list[Day] = [("v1", THREE, {**USUAL, "storm": 12})] * 4
    known: list[Day] = [("v2", (*THREE, "storm"), {**USUAL, "storm": 12})] * 5
    said = told([("v1", THREE, USUAL)] * 3 + storm + known)
    # Twenty labels are there on the second day of storms, and their horizon (a label comes after an hour) has passed on the third.
    assert findings(said) == [("unknown_class", "storm", 3), ("new_class", "storm", 5), ("new_class", "storm", 6)]
    share, enough, again = (one for one in said if isinstance(one, Finding))
    assert (share.severity, share.evidence) == ("warning", {"labels": 12.0, "of_labels": 412.0, "share": 12 / 412})
    assert share.detail == "12 of 412 labels of 4 days (2.9%) are of class storm, unknown to champion v1"
    assert (enough.evidence, again.evidence["labels"]) == ({"labels": 24.0, "needed": 20.0}, 36.0)
    assert incidents(said) == [("labels:heat", change, day) for change, day in (("opened", 3), ("joined", 5), ("joined", 6), ("resolved", 9))]


def test_a_champion_that_knows_less_again_is_told_of_what_it_lacks() -> None:
    four, day = (*THREE, "storm"), {**USUAL, "storm": 12}
    said = told([("v2", four, day)] * 3 + [("v3", THREE, day)] * 2)
    assert findings(said)[0] == ("unknown_class", "storm", 3)


def test_a_name_that_comes_once_is_no_news_and_many_such_names_together_are() -> None:
    rare = [("v1", THREE, {**USUAL, "hail": int(day == 2)}) for day in range(6)]
    assert findings(told(rare)) == []
    typed = [("v1", THREE, {**USUAL, **{f"text {day} {i}": 1 for i in range(8)}}) for day in range(3)]
    assert findings(told(typed)) == [("unknown_class", "other classes", 0)]


def test_a_class_that_is_called_as_the_others_together_is_told_by_itself() -> None:
    days = [("v1", THREE, {**USUAL, "other classes": 30, '"storm"': 12, "hail": 1})] * 2
    first, quoted = (one for one in told(days) if isinstance(one, Finding) and one.kind == "unknown_class")
    assert (first.subject, first.evidence["labels"]) == (r'"\"storm\""', 12.0)
    assert (quoted.subject, quoted.evidence["labels"]) == ('"other classes"', 30.0)
    many: Day = ("v1", THREE, {**USUAL, "other classes": 4, **{f"text {i}": 4 for i in range(4)}})
    (together,) = (one for one in told([many]) if isinstance(one, Finding))
    assert (together.subject, together.evidence["labels"]) == ("other classes", 20.0) and "5 other classes" in together.detail


def test_names_beyond_those_that_are_kept_are_counted_with_the_others() -> None:
    typed: Day = ("v1", THREE, {f"text {i}": 1 for i in range(1_100)})
    (together,) = (one for one in told([typed]) if isinstance(one, Finding) and one.kind == "unknown_class")
    assert (together.subject, together.evidence["labels"]) == ("other classes", 1_100.0) and "1,000 or more other classes" in together.detail


@pytest.mark.parametrize("first_day", [-40, -3, 100])
def test_labels_of_requests_before_1970_can_be_learned_from_as_those_after(first_day: int) -> None:
    own, conditions, enough = UnknownClasses("heat", "truths", 20), Conditions("heat"), list[int]()
    for day in range(first_day, first_day + 8):
        own.absorb(["storm"] * 4, [day * DAY] * 4)
        said = own.close(Coordinates((day + 1) * DAY, 0, 0), "v1", day, conditions, DAY)
        enough += [day - first_day for one in said if one.kind == "new_class"]
    assert enough == [5], "four labels a day, whose horizon is over a day after the request's"


def test_another_code_list_is_an_alarm() -> None:
    said = told([("v1", THREE, USUAL), ("v1", THREE, {"COLD": 600, "MILD": 100})])
    severities = {one.subject: one.severity for one in said if isinstance(one, Finding) and one.kind == "unknown_class"}
    assert severities == {"COLD": "alarm", "MILD": "warning"}


def test_a_restart_changes_nothing() -> None:
    first: Day = ("v1", THREE, USUAL)
    second: Day = ("v1", THREE, {**USUAL, "storm": 9, "hail": 1})
    third: Day = ("v2", (*THREE, "storm"), {**USUAL, "storm": 9})
    days = [first] * 2 + [second] * 6 + [third] * 4
    assert told(days, restarts=True) == told(days)
