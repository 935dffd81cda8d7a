"""Which recipe's refits go out, and what was spent: a fold of the lifecycle log."""

from typing import Any

from tidemill.services.retraining.domain.admissions import SEARCH_IS_PUT_OFF, Admissions
from tidemill.services.retraining.domain.recipe import Recipe
from tidemill.services.retraining.domain.state import WorkerState
from tidemill.shared.statistics.levels import YEAR_MS

DAY_MS = 86_400_000


class Log:
    """The lifecycle log as the worker writes it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def training(self, day: int, version: str, recipe: str, *events: str, **figures: float) -> None:
        for event in ("registered", *events):
            self.event(day, event, version, {"recipe": recipe, "searched": "yes"}, figures)

    def event(self, day: int, event: str, version: str, details: dict[str, str] | None = None, figures: dict[str, float] | None = None) -> None:
        head = len(self.events) - 1
        named = {"decision_id": f"{version}{event}", "model": "m", "event": event, "version": version, "artifact_sha256": version, "reason": ""}
        place = {"journal_partition": 0, "journal_offset": 0, "journal_time": day * DAY_MS}
        at = {"sequence": head + 1, "parent": head, "threshold": 0.5, "share": 0.1, **place}
        self.events.append({**named, **at, "details": details or {}, "figures": figures or {}})

    @property
    def now(self) -> Admissions:
        """The state."""
        state = WorkerState()
        for event in self.events:
            state.deployed(event)
        return state.admission("m")


def test_the_recipe_of_a_promoted_model_is_admitted_and_its_refits_keep_it() -> None:
    log = Log()
    assert not log.now.is_admitted
    log.training(1, "v1", "a", "gate_passed", "promoted")
    log.training(22, "v2", "a", "gate_passed", "promoted")
    assert log.now.is_admitted and (log.now.serving, log.now.searched_ms) == ("a", 22 * DAY_MS)
    log.training(40, "v3", "b", "gate_refused")
    assert log.now.is_admitted and log.now.serving == "a", "another recipe that is refused takes nothing from it"


def test_a_recipe_that_was_rolled_back_has_to_pass_again_and_the_one_before_is_still_admitted() -> None:
    log = Log()
    log.training(1, "v1", "a", "gate_passed", "promoted")
    log.training(20, "v2", "b", "gate_passed", "promoted")
    log.event(25, "rolled_back", "v1")
    assert log.now.is_admitted and log.now.serving == "a"
    log.training(40, "v3", "a", "gate_passed", "promoted")
    log.event(45, "rolled_back", "v1")
    assert not log.now.is_admitted, "a refit was rolled back: its recipe is that of the model before as well"
    log.training(50, "v4", "a", "gate_passed", "promoted")
    assert log.now.is_admitted


def test_a_search_that_an_alarm_has_put_off_is_made_by_the_next_training() -> None:
    log = Log()
    log.training(1, "v1", "a", "gate_passed", "promoted")
    for event in ("registered", "gate_passed", "promoted"):
        log.event(20, event, "v2", {"recipe": "a", "searched": "put off"})
    assert log.now.searched_ms == SEARCH_IS_PUT_OFF
    log.event(30, "registered", "v3", {"recipe": "a"})
    assert log.now.searched_ms == SEARCH_IS_PUT_OFF
    log.training(40, "v4", "b", "gate_passed")
    assert log.now.searched_ms == 40 * DAY_MS


def test_levels_are_those_of_the_last_year_and_an_ignored_event_spends_none() -> None:
    log = Log()
    log.training(1, "v1", "a", "gate_passed", "promoted", gate_level=0.0125, loss=0.4)
    log.training(100, "v2", "b", "gate_refused", gate_level=0.009, incumbent_level=0.007, reverse_level=0.005)
    assert [level for _, level in log.now.spent] == [0.0125, 0.009, 0.007, 0.005]
    log.events.append({**log.events[-1], "event": "registered", "figures": {"gate_level": 0.04}})
    assert len(log.now.spent) == 4, "a zombie's event has another parent"
    log.events.pop()
    log.training(1 + YEAR_MS // DAY_MS, "v3", "b", "gate_refused", gate_level=0.02)
    assert [level for _, level in log.now.spent] == [0.009, 0.007, 0.005, 0.02]


def test_a_champion_of_a_version_without_recipes_has_to_pass() -> None:
    log = Log()
    log.event(1, "registered", "v1")
    log.event(1, "promoted", "v1")
    assert not log.now.is_admitted and log.now.serving == ""


def test_a_recipe_is_the_same_by_its_text_and_another_one_when_its_features_are() -> None:
    one, same = Recipe({"family": "f", "window_days": 0, "x": 0.1}, "p"), Recipe({"x": 0.1, "window_days": 0, "family": "f"}, "p")
    assert one.text == same.text and Recipe.of(one.text, "p") == one
    assert Recipe.of(one.text, "q") is None and Recipe.of("", "p") is None


def test_whose_recipe_is_tried() -> None:
    log = Log()
    log.training(1, "v1", "a", "gate_passed", "promoted")
    log.training(20, "v2", "b", "gate_passed", "shadow")
    assert [log.now.tried("v2", recipe) for recipe in ("a", "b", "c")] == ["another", "candidate's", "another"]
    log.training(25, "v3", "a", "gate_passed", "canary")
    assert log.now.tried("v3", "a") == "champion's" and log.now.tried("", "a") == log.now.tried("v9", "a") == "unknown"


def test_a_challenger_is_promoted_as_a_refit_only_while_its_recipe_is_that_of_the_champion_and_admitted() -> None:
    log = Log()
    log.training(1, "v1", "a", "gate_passed", "promoted")
    log.training(20, "v2", "b", "gate_passed", "canary")
    assert not log.now.is_refit("v2") and not log.now.is_refit("unheard-of")
    log.training(30, "v3", "a", "gate_passed", "canary")
    assert log.now.is_refit("v3")
    log.event(31, "promoted", "v3")
    log.event(32, "rolled_back", "v1")
    log.training(40, "v4", "a", "gate_passed", "canary")
    assert not log.now.is_refit("v4"), "its recipe has lost its admission"


def test_of_candidates_without_a_recipes_text_the_training_says_which_is_a_refit() -> None:
    log = Log()
    log.event(1, "promoted", "v1")
    log.event(2, "registered", "v2", {"admission": "refit of an admitted recipe"})
    log.event(3, "registered", "v3", {"admission": "gate"})
    assert (log.now.is_refit("v2"), log.now.is_refit("v3")) == (True, False)
