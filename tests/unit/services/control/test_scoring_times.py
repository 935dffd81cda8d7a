"""A challenger that takes longer to score than declared goes back, with figures; noise of the machine sends nobody back."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from tidemill.services.control.domain.decision import JournalPlace
from tidemill.services.control.domain.scoring_times import ScoringTimeWatch
from tidemill.services.control.domain.trial_state import StagePolicy
from tidemill.shared.application.stages import CanaryStage, ScoringTimeLimit, ShadowStage, StageLimits, Stages

MINUTE = 60_000
AT = JournalPlace(7)
BOTH = Stages(shadow=ShadowStage(), canary=CanaryStage())


def watch(stages: Stages = BOTH) -> ScoringTimeWatch:
    return ScoringTimeWatch([StagePolicy("m", "binary", stages, 0.005, 0.02, 0.05)])


def window(minute: int, champion_us: float = 40.0, challenger_us: float = 40.0, requests: int = 50, **changes: Any) -> dict[str, Any]:
    return {
        "model": "m", "journal_partition": 0, "journal_offset": minute, "journal_time": (minute + 1) * MINUTE - 1, "champion_version": "v1",
        "challenger_version": "v2", "challenger_sequence": 5, "stage": "shadow", "window_start": minute * MINUTE,
        "window_end": (minute + 1) * MINUTE, "requests": requests, "calls": requests, "champion_ns": round(champion_us * 1_000 * requests),
        "challenger_ns": round(challenger_us * 1_000 * requests), **changes,
    }  # fmt: skip


def play(one: ScoringTimeWatch, windows: Iterable[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return [(record["window_start"] // MINUTE, said) for record in windows for said in one.take(record, AT)]


def noisy(seed: int, minutes: int, slower: float = 1.0) -> Iterable[dict[str, Any]]:
    """Three calls a minute on a machine that is away for milliseconds to seconds in a third of them, whoever runs."""
    draw = np.random.default_rng(seed)
    away = np.where(draw.random((minutes, 2, 3)) < 0.3, 500 * (draw.pareto(0.8, (minutes, 2, 3)) + 1), 0.0)
    took = 40 * draw.lognormal(0, 0.5, (minutes, 2, 3)) * np.array([1, slower])[:, None] + away
    for minute, (champion, challenger) in enumerate(took.mean(axis=2).clip(max=1e7).tolist()):
        yield window(minute, champion, challenger, 3)


def test_one_that_is_slow_goes_back_within_half_an_hour_and_the_reason_has_the_figures() -> None:
    ((minute, said),) = play(watch(), (window(minute, 40.0, 800.0, stage="canary") for minute in range(60)))
    assert minute == 25, "25 windows at the level of 42 days"
    assert (said["action"], said["verdict"], said["trigger"], said["version"], said["journal_time"]) == ("step_back", "requested", "trial", "v2", 7)
    assert said["reason"] == (
        "v2 as a canary: scoring time: expected at most 3 times the champion's 40 µs a request, or 250 µs more, found 800 µs (20 times)"
        " on 1,250 requests; 25 of 25 windows were slow"
    )
    assert said["figures"]["champion_scoring_us"] == 40 and said["figures"]["challenger_scoring_us"] == 800
    assert said["figures"]["scoring_time_evidence"] >= said["figures"]["scoring_time_bound"] == pytest.approx(42 * 1_440 / 0.0125)


def test_one_that_becomes_slow_after_a_week_goes_back_as_soon_as_one_that_always_was() -> None:
    week = 7 * 1_440
    minutes = (window(minute, 40.0, 800.0 if minute >= week else 40.0) for minute in range(week + 60))
    ((minute, said),) = play(watch(), minutes)
    assert minute == week + 25 and said["figures"]["slow_windows"] == 25 <= said["figures"]["scoring_windows"] <= 28


@pytest.mark.parametrize(("champion_us", "challenger_us"), [(1.0, 200.0), (400.0, 1_100.0), (40.0, 4.0)], ids=["unnoticeable", "within", "faster"])
def test_both_limits_have_to_be_exceeded(champion_us: float, challenger_us: float) -> None:
    assert not play(watch(), (window(minute, champion_us, challenger_us) for minute in range(2_000)))


def test_one_that_is_slow_in_four_windows_of_five_goes_back_too() -> None:
    draw = np.random.default_rng(3)
    ((minute, _),) = play(watch(), (window(minute, 40.0, 800.0 if draw.random() < 0.8 else 40.0) for minute in range(400)))
    assert minute < 200


def test_noise_of_the_machine_sends_no_equal_challenger_back() -> None:
    slow = sum(record["challenger_ns"] > 3 * record["champion_ns"] for record in noisy(1, 5_000))
    assert slow > 1_000, "a limit on each window would send everybody back"
    assert not [said for seed in range(4) for said in play(watch(), noisy(seed, 5_000))]
    assert play(watch(), noisy(5, 5_000, slower=60.0)), "and hides none that is slow"


def test_windows_of_several_partitions_are_one_and_late_ones_count_nothing() -> None:
    one = watch()
    assert not play(one, [window(0, 40, 40), window(0, 40, 4_000, journal_partition=1), window(1)])
    challenger = one.snapshot()["m"]
    assert (challenger["windows"], challenger["slow"], challenger["seen"]) == (1, 1, [100, 4_000_000, 202_000_000])
    assert not one.take(window(0, 40, 4_000, journal_partition=2), AT)
    assert one.snapshot()["m"] == challenger


def test_a_stage_begins_with_the_evidence_of_the_one_before_and_a_newer_challenger_with_none() -> None:
    one = watch()
    assert len(play(one, (window(minute, 40, 800) for minute in range(40)))) == 1
    assert one.sent_back() == [("m", "v2", 5)]
    ((_, said),) = play(one, (window(minute, 40, 800, challenger_sequence=6, stage="canary") for minute in range(40, 80)))
    assert said["reason"].startswith("v2 as a canary") and said["figures"]["slow_windows"] >= 40
    before = one.snapshot()
    for minute in (80, 81, 82):
        assert not one.take(window(minute, 40, 800), AT)
    assert one.snapshot() == before, "windows of the stage before come late and count nothing"
    assert not play(one, (window(minute, 40, 800, challenger_sequence=9, challenger_version="v3") for minute in range(81, 100)))
    assert one.snapshot()["m"]["version"] == "v3" and one.snapshot()["m"]["slow"] == 18


def test_what_something_else_has_decided_is_not_decided_again() -> None:
    one = watch()
    assert not [said for minute in range(60) for said in one.take(window(minute, 40, 800), AT, decides=False)]
    assert one.take(window(60, 40, 800), AT)


def test_a_restart_is_no_restart() -> None:
    windows = list(noisy(6, 300, slower=60.0))
    straight = play(watch(), windows)
    one, said = watch(), []
    for record in windows:
        said += play(one, [record])
        state = json.loads(json.dumps(one.snapshot()))
        one = watch()
        one.load(state)
    assert said == straight and straight


def test_without_the_limit_nothing_is_judged() -> None:
    limits = StageLimits(scoring_time=None)
    assert not play(watch(Stages(canary=CanaryStage(), limits=limits)), (window(minute, 40, 8_000) for minute in range(400)))
    short = StageLimits(scoring_time=ScoringTimeLimit.model_validate({"window": "1s"}))
    assert watch(Stages(limits=short))._bounds["m"] == pytest.approx(42 * 86_400 / 0.0125)
