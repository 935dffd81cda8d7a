"""Control as a task: a challenger whose scoring times are too long goes back once."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.control.control_world import DAY, ControlWorld, example_of
from tidemill.shared.runner.progress import Progress


@pytest.mark.parametrize("restarts", [False, True])
def test_a_challenger_that_scores_too_slowly_goes_back_once_and_its_trial_says_no_more(tmp_path: Path, restarts: bool) -> None:
    world = ControlWorld(tmp_path)
    topics = world.plan.topics
    world.cover(DAY)
    times = example_of("scoring-time")
    times |= {"model": "sent_back", "stage": "shadow", "challenger_version": "v2", "challenger_sequence": 5}
    asked: list[dict[str, Any]] = []
    for minute in range(40):
        taken = {"requests": 10, "calls": 10, "champion_ns": 400_000, "challenger_ns": 9_000_000, "window_start": minute * 60_000}
        world.append(topics.scoring_times, {**times, **taken, "window_end": (minute + 1) * 60_000})
        asked += world.step()
        if restarts:
            world.restart()
    (said,) = asked
    assert (said["action"], said["version"], said["journal_time"], said["trigger"]) == ("step_back", "v2", DAY, "trial")
    assert said["reason"].startswith("v2 in shadow: scoring time: expected at most 3 times the champion's 40 µs")
    example = example_of("trial")
    who = {"model": "sent_back", "stage": "shadow", "challenger_sequence": 5, "challenger_version": "v2", "slice": ""}
    world.append(topics.trials, {**example, **who, "journal_time": DAY + 5, "requests": 900, "challenger_failures": 900})
    world.topics[topics.progress("drift")].append(
        Progress("drift", 0, covered_time=DAY + 6, outputs={topics.trials: 1}).encode(world.codecs[topics.progress("drift")])
    )
    assert not world.step(), "one without scores would go back"
    world.append(topics.trials, {**example, **who, "challenger_sequence": 6, "journal_time": DAY + 7, "requests": 900, "challenger_failures": 900})
    world.topics[topics.progress("drift")].append(
        Progress("drift", 0, covered_time=DAY + 8, outputs={topics.trials: 2}).encode(world.codecs[topics.progress("drift")])
    )
    assert [one["action"] for one in world.step()] == ["step_back"], "another stage is judged again"
