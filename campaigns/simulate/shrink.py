"""Makes a failing run small: leaves out whatever the failure does not need."""

import json
from collections.abc import Callable, Sequence

from campaigns.simulate.actions import Action, dump
from campaigns.simulate.run import RunResult, replay

Fails = Callable[[Sequence[Action]], bool]


def shrink(actions: Sequence[Action], fails: Fails, budget: int = 400) -> list[Action]:
    """Return a list of actions that fails as well and from which little can be taken (delta debugging; Zeller and Hildebrandt 2002, ddmin).

    Parameters
    ----------
    fails
        Whether a list fails in the same way.
    budget
        Runs at most.
    """
    left, parts, runs = list(actions), 2, 0
    while len(left) > 1 and runs < budget:
        size = -(-len(left) // parts)
        for begin in range(0, len(left), size):
            fewer = left[:begin] + left[begin + size :]
            runs += 1
            if fewer and fails(fewer):
                left, parts = fewer, max(2, parts - 1)
                break
            if runs >= budget:
                return left
        else:
            if size == 1:
                return left
            parts = min(len(left), 2 * parts)
    return left


def shrunk(result: RunResult, budget: int = 400) -> tuple[list[Action], RunResult]:
    """Shrink a failing run; a list counts as failing when the same kind of thing does not hold."""
    kind = kind_of(result.violation)
    small = shrink(result.actions, lambda actions: kind_of(replay(result.settings, actions).violation) == kind, budget)
    return small, replay(result.settings, small)


def kind_of(violation: str) -> str:
    """Return what a violation says without its numbers and names."""
    return " ".join(word for word in violation.split() if word.isalpha())[:60]


def as_test(name: str, result: RunResult, actions: Sequence[Action]) -> str:
    """Return the run as a file that `tests/campaigns/kept` keeps: settings, what was wrong, actions."""
    settings = {field: getattr(result.settings, field) for field in result.settings.__slots__}
    head = f'{{"name": {json.dumps(name)}, "was": {json.dumps(result.violation[:300])}, "settings": {json.dumps(settings)}, "actions": '
    return head + dump(actions).rstrip() + "}\n"
