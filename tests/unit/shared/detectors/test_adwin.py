"""ADWIN is river's; its state is written down and goes on bit for bit."""

import base64
import json
from collections.abc import Callable

import numpy as np
import pytest
from river import drift

from tidemill.shared.detectors.river_adwin import RiverAdwin
from tidemill.shared.detectors.river_check import check_river


def _stream(seed: int) -> list[float]:
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.uniform(0.1, 0.5, 6), 1500)
    values = generator.random(9000) < level if seed % 2 else np.clip(level + generator.normal(0, 0.2, 9000), 0, 1)
    return [float(value) for value in values]


@pytest.mark.parametrize("seed", range(6))
def test_a_batch_gives_the_changes_of_river_value_by_value(seed: int) -> None:
    values, theirs, alarms = _stream(seed), drift.ADWIN(delta=0.002), []
    for row, value in enumerate(values):
        before = (0.0, 0) if theirs.drift_detected else (theirs.estimation, theirs.width)
        theirs.update(value)
        if theirs.drift_detected:
            alarms.append((row, *before, theirs.estimation, theirs.width))
    changes = RiverAdwin(delta=0.002).update(values)
    assert [(one.row, one.mean_before, one.width_before, one.mean_after, one.width_after) for one in changes] == alarms
    assert len(alarms) >= 3


@pytest.mark.parametrize("seed", range(2))
def test_a_saved_state_goes_on_exactly_wherever_it_is_cut(seed: int) -> None:
    values = _stream(seed)
    whole = RiverAdwin()
    changes = whole.update(values)
    for cut in [0, 1, 31, 1500, 4321, *(change.row + ahead for change in changes[:2] for ahead in (0, 1, 2)), len(values)]:
        first, second = RiverAdwin(), RiverAdwin()
        before = first.update(values[:cut])
        second.load(json.loads(json.dumps(first.snapshot())))
        assert second.snapshot()["changed"] == first.snapshot()["changed"]
        after = second.update(values[cut:])
        assert [change.row for change in before] + [change.row + cut for change in after] == [change.row for change in changes], cut
        assert [(one.mean_before, one.width_before) for one in [*before, *after]] == [(one.mean_before, one.width_before) for one in changes]
        if cut < len(values):
            assert second.snapshot() == whole.snapshot()


def test_reset_forgets_everything() -> None:
    detector = RiverAdwin()
    detector.update(_stream(1))
    detector.reset()
    assert detector.snapshot() == RiverAdwin().snapshot()


SPOILT: list[Callable[[bytes], bytes]] = [lambda b: b"", lambda b: b[:-3], lambda b: b"\xff" * len(b), lambda b: b + b"zz", lambda b: b"nothing" * 9]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_no_state_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    detector = RiverAdwin()
    detector.update(_stream(1)[:700])
    window = base64.b64decode(detector.snapshot()["window"])
    wrong = base64.b64encode(spoil(window)).decode()
    with pytest.raises(ValueError, match="expected a state of river's ADWIN"):
        RiverAdwin().load({"window": wrong, "changed": False})


def test_a_state_of_another_delta_is_refused() -> None:
    with pytest.raises(ValueError, match=r"delta 0\.002"):
        RiverAdwin(0.002).load(RiverAdwin(0.01).snapshot())


class OtherRiver:
    """River's ADWIN as it would be if its window could no longer be written down."""

    def __init__(self, delta: float) -> None:
        self._river = drift.ADWIN(delta=delta)
        self._helper = object()

    def update(self, value: float) -> None:
        self._river.update(value)

    @property
    def drift_detected(self) -> bool:
        return bool(self._river.drift_detected)

    @property
    def width(self) -> int:
        return int(self._river.width)

    @property
    def estimation(self) -> float:
        return float(self._river.estimation)


def test_another_river_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    check_river()
    monkeypatch.setattr("tidemill.shared.detectors.river_adwin.ADWIN", OtherRiver)
    with pytest.raises(RuntimeError, match=r"expected river 0\.26\.1, whose detectors .*, found river .*adwin"):
        check_river()
