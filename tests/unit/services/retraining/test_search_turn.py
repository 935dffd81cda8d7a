"""When another recipe is looked for: an alarm's training refits first where a recipe is tried before it serves."""

import pytest

from tidemill.services.retraining.domain.admissions import NEVER_SEARCHED, SEARCH_IS_PUT_OFF
from tidemill.services.retraining.domain.search_turn import search_turn
from tidemill.shared.application.stages import CanaryStage, ShadowStage, Stages

DAY = 86_400_000
NONE, STAGED = Stages(), Stages(shadow=ShadowStage(), canary=CanaryStage())


@pytest.mark.parametrize("stages", [Stages(shadow=ShadowStage()), Stages(canary=CanaryStage()), STAGED])
def test_an_alarm_puts_the_search_off_and_the_next_training_makes_it(stages: Stages) -> None:
    assert search_turn("drift", True, 10 * DAY, 20 * DAY, 90 * DAY, stages) == "later"
    assert search_turn("drift", True, 10 * DAY, 200 * DAY, 90 * DAY, stages) == "later", "although a search is due"
    for trigger in ("schedule", "labels", "manual", "new_class", "drift"):
        for every in (90 * DAY, None):
            assert search_turn(trigger, True, SEARCH_IS_PUT_OFF, 20 * DAY, every, stages) == "now"


def test_an_alarm_searches_where_a_recipe_serves_at_once_or_the_champions_has_lost_its_admission() -> None:
    assert search_turn("drift", True, 10 * DAY, 20 * DAY, 90 * DAY, NONE) == "now"
    assert search_turn("drift", False, 10 * DAY, 20 * DAY, 90 * DAY, STAGED) == "now"


@pytest.mark.parametrize("stages", [NONE, STAGED])
def test_without_an_alarm_a_search_is_made_when_it_is_due_and_on_command(stages: Stages) -> None:
    assert search_turn("schedule", True, 10 * DAY, 20 * DAY, 90 * DAY, stages) == "no"
    assert search_turn("schedule", True, 10 * DAY, 100 * DAY, 90 * DAY, stages) == "now"
    assert search_turn("schedule", True, NEVER_SEARCHED, 100 * DAY, 90 * DAY, stages) == "now"
    assert search_turn("labels", True, 10 * DAY, 900 * DAY, None, stages) == "no"
    assert search_turn("manual", True, 10 * DAY, 11 * DAY, None, stages) == "now"
