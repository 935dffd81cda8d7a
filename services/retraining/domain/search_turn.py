"""Whether a training looks for another recipe: a pure decision on what asked for it and on the application's stages."""

from typing import Literal

from tidemill.services.retraining.domain.admissions import SEARCH_IS_PUT_OFF
from tidemill.shared.application.stages import Stages

ALARM = "drift"
"""What asks for a training because the champion's answers have become worse."""
_SEARCHES = (ALARM, "manual")


def search_turn(
    trigger: str, is_admitted: bool, searched_ms: int, now_ms: int, every_ms: int | None, stages: Stages
) -> Literal["now", "later", "no"]:
    """Return when another recipe is looked for; ``later`` is the next training.

    Another recipe that is found is tried for days where there are stages, and all that time the champion answers a world that is not its own. So an
    alarm's training refits the champion's recipe first, and the training after it searches, whatever asks for that.

    Parameters
    ----------
    is_admitted
        Whether refits of the champion's recipe go out.
    searched_ms
        Of `Admissions`.
    every_ms
        `training.search_every`.
    """
    if searched_ms == SEARCH_IS_PUT_OFF:
        return "now"
    if trigger == ALARM and is_admitted and stages.tries_recipes:
        return "later"
    is_due = every_ms is not None and now_ms - searched_ms >= every_ms
    return "now" if is_due or trigger in _SEARCHES else "no"
