"""What every detector of the catalogue keeps: batches and restarts change nothing, bad input is named, the state is small and plain."""

import json
from itertools import pairwise

import numpy as np
import pytest

from tidemill.shared.detectors.catalogue import CATALOGUE, DEFAULT, DetectorChoice, read_choice, read_choices
from tidemill.shared.detectors.detector import Change, Detector
from tidemill.shared.detectors.detectors import detector

NAMES = list(CATALOGUE)
ROWS = 9_000


def made(name: str) -> Detector:
    return detector(DetectorChoice(name, {"baseline": 1_000} if name == "cusum_mixture" else {}))


def stream(name: str, seed: int = 3) -> tuple[list[float], list[float]]:
    """Errors that become more frequent twice (or losses with the same means), and the rate that is expected of each."""
    generator = np.random.default_rng(seed)
    rate = np.repeat([0.1, 0.4, 0.8], ROWS // 3)
    expected = generator.uniform(0.05, 0.15, ROWS)
    errors = (generator.random(ROWS) < rate + expected - 0.1).astype(np.float64)
    return (errors if CATALOGUE[name].bits else np.clip(rate + generator.normal(0, 0.1, ROWS), 0, 1)).tolist(), expected.tolist()


def in_parts(one: Detector, values: list[float], expected: list[float], cuts: list[int], restart: bool) -> tuple[list[Change], Detector]:
    """Absorb a stream in parts; with `restart`, another detector takes over between them, from what was written down."""
    changes: list[Change] = []
    for begin, end in pairwise([0, *cuts, len(values)]):
        for change in one.update(values[begin:end], expected[begin:end]):
            changes.append(Change(begin + change.row, change.mean_before, change.width_before, change.mean_after, change.width_after))
        if restart:
            saved = json.dumps(one.snapshot())
            one = made(one.name)
            one.update(values[:7], expected[:7])
            one.load(json.loads(saved))
    return changes, one


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("restart", [False, True])
def test_batches_and_restarts_change_nothing(name: str, restart: bool) -> None:
    values, expected = stream(name)
    whole = made(name)
    changes = whole.update(values, expected)
    assert changes, "the stream has changes in it"
    at = [change.row + ahead for change in changes[:3] for ahead in (0, 1, 2)]
    cuts = sorted({*np.random.default_rng(5).integers(0, ROWS, 40).tolist(), 1, 500, 501, *at})
    alarms, last = in_parts(made(name), values, expected, cuts, restart)
    # What ADWIN kept of a window that it is about to throw away is not written down.
    assert [(one.row, one.mean_before, one.width_before) for one in alarms] == [(one.row, one.mean_before, one.width_before) for one in changes]
    assert last.snapshot() == whole.snapshot()


@pytest.mark.parametrize("name", NAMES)
def test_a_rise_is_found_soon_and_its_means_are_right(name: str) -> None:
    values, expected = stream(name)
    changes = made(name).update(values, expected)
    rise = next(change for change in changes if change.row >= ROWS // 3)
    assert rise.row < ROWS // 3 + 500
    assert rise.mean_after > rise.mean_before
    begin = rise.row + 1 - rise.width_after
    assert rise.mean_after == pytest.approx(np.mean(values[begin : rise.row + 1]))


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets_everything(name: str) -> None:
    one = made(name)
    one.update(*stream(name))
    one.reset()
    assert one.snapshot() == made(name).snapshot()


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_take_is_refused_by_name_and_row(name: str) -> None:
    for wrong in (float("nan"), float("inf"), *([0.37] if CATALOGUE[name].bits else [])):
        one = made(name)
        with pytest.raises(ValueError, match=rf"{name}: expected (0 or 1|finite numbers), found {wrong} in row 2"):
            one.update([0.0, 1.0, wrong])
        assert one.snapshot() == made(name).snapshot(), "nothing of a refused batch is absorbed"


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_small_plain_and_its_own(name: str) -> None:
    one = made(name)
    values, expected = stream(name)
    one.update(values[:2_900], expected[:2_900])
    assert len(json.dumps(one.snapshot())) < 8_000
    with pytest.raises((ValueError, KeyError)):
        made(name).load({"nothing": 1})


def test_errors_that_are_expected_are_no_change() -> None:
    """The base rate goes from .1 to .4 and the model says so: silence. The same errors without a word of it: a change."""
    generator = np.random.default_rng(4)
    expected = np.concatenate([generator.choice([0.1, 0.4], 20_000, p=[0.9, 0.1]), generator.choice([0.1, 0.4], 20_000, p=[0.1, 0.9])])
    errors = (generator.random(40_000) < expected).astype(np.float64).tolist()
    assert not detector(DetectorChoice("cusum_mixture")).update(errors, expected.tolist())
    assert detector(DetectorChoice("cusum_mixture")).update(errors)


def test_a_baseline_that_came_out_low_is_no_change() -> None:
    """5,000 labels in which errors happened to be two standard errors too few, then 20,000 of the true rate, twenty times: at most one ring.

    Five with the mean itself as the usual rate.
    """
    rings = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        baseline = np.zeros(5_000)
        baseline[generator.permutation(5_000)[: 1_000 - 56]] = 1
        one = detector(DetectorChoice("cusum_mixture"))
        one.update(baseline.tolist())
        rings += len(one.update((generator.random(20_000) < 0.2).astype(np.float64).tolist()))
    assert rings <= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("adwinn", r"expected one of the detectors cusum_mixture, adwin, .*, found 'adwinn'; did you mean adwin\?"),
        ("HDDM_A", r"did you mean hddm_a\?"),
        ("page-hinkley", r"did you mean page_hinkley\?"),
        ("kswin", r"kswin is not offered: .*microseconds"),
        ({"adwin": {"deltas": 0.1}}, r"adwin: expected one of its parameters delta, found 'deltas'; did you mean delta\?"),
        ({"adwin": {"delta": 2}}, r"adwin\.delta: expected a number from 1e-12 to 0\.5 \(default 0\.002\), found 2"),
        ({"ddm": {"warm_start": 1.5}}, r"ddm\.warm_start: expected a whole number"),
        ({"ddm": {"warm_start": True}}, r"ddm\.warm_start: expected a whole number"),
        ({"adwin": 0.1}, r"adwin: expected parameters by name, found 0\.1"),
        ({"adwin": {}, "ddm": {}}, r"expected a detector's name, or one name with its parameters"),
        ({"eddm": {"alpha": 0.5}}, r"eddm: expected alpha"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(given: str | dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_choice(given)


def test_a_list_names_every_detector_once() -> None:
    assert [one.name for one in read_choices(DEFAULT)] == list(DEFAULT)
    with pytest.raises(ValueError, match="expected every detector once, found adwin 2 times"):
        read_choices(["adwin", {"adwin": {"delta": 0.1}}])
