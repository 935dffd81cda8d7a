"""What a command of an operator or of control does to the lifecycle of a model: a pure decision on where the model stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.shared.models.deployments import Challenger, Lifecycle, ModelDeployment

_NOTHING = ModelDeployment("", "", -1, 0.5)
_PROMOTE_REFIT = "promote_refit"
_EVENTS = {
    _PROMOTE_REFIT: "promoted",
    "pin": "pinned",
    "unpin": "unpinned",
    "canary": "canary",
    "ab": "ab",
    "promote": "promoted",
    "step_back": "stepped_back",
}
_OF_CHALLENGERS = ("canary", "promote", _PROMOTE_REFIT, "step_back")
_LATEST = 5


@dataclass(frozen=True, slots=True)
class LifecycleAnswer:
    """The lifecycle event that answers a command (such as rolled_back or command_refused), the version it is about, and why."""

    event: str
    deployment: ModelDeployment
    reason: str


def obey(command: Mapping[str, Any], lifecycle: Lifecycle, is_refit: Callable[[str], bool] = lambda version: False) -> LifecycleAnswer:
    """Carry out a command, or refuse it with what was expected and what is.

    Two operators who command at once each saw the same version in service. The first is followed; the second names a version that serves no more
    (`serving`) and is refused, instead of rolling back once more than anybody wanted.

    Parameters
    ----------
    is_refit
        Whether a version is a refit of the champion's admitted recipe: only such a challenger is promoted by control's ``promote_refit``.
    """
    if problem := _problem(command, lifecycle) or _problem_of_refit(command, lifecycle, is_refit):
        return LifecycleAnswer("command_refused", lifecycle.champion or _NOTHING, f"{command['action']}: {problem}")
    if command["action"] == "roll_back":
        target = lifecycle.served_before(command["version"]) if command["version"] else lifecycle.retired[-1]
        return LifecycleAnswer("rolled_back", target or _NOTHING, f"asked for: {command['reason']}")
    about: ModelDeployment | Challenger | None = lifecycle.challenger if command["action"] in _OF_CHALLENGERS else lifecycle.champion
    if command["action"] == "ab":
        about = lifecycle.version(command["version"])
    deployment = ModelDeployment(about.version, about.artifact_sha256, about.sequence, about.threshold) if about else _NOTHING
    return LifecycleAnswer(_EVENTS[command["action"]], deployment, command["reason"])


def _problem(command: Mapping[str, Any], lifecycle: Lifecycle) -> str:
    action, version, serving = command["action"], command["version"], command["serving"]
    now = lifecycle.champion.version if lifecycle.champion else "nothing"
    if serving and serving != now:
        return f"expected {serving} to serve, as when the command was given, found {now}: somebody else was faster; look again"
    if action == "unpin":
        return "" if lifecycle.pin else f"expected a version that is pinned, found none ({now} serves)"
    if lifecycle.pin is not None:
        return f"expected a model that is not pinned, found {lifecycle.pin}; unpin it first"
    if action in _OF_CHALLENGERS:
        return _problem_of_challenger(action, version, lifecycle, now)
    if action == "ab":
        return _problem_of_comparison(version, lifecycle, now)
    if action == "pin":
        if lifecycle.champion is None:
            return "expected a version that serves, found none: the model has not been promoted yet"
        return f"expected the version that serves ({now}), got {version}; roll back to it first" if version not in ("", now) else ""
    if action != "roll_back":
        return f"expected roll_back, promote, promote_refit, step_back, canary, ab, pin or unpin, got {action}"
    if not lifecycle.retired:
        return "there is no earlier champion to roll back to"
    if version == now:
        return f"{version} serves already"
    if version and lifecycle.served_before(version) is None:
        return f"expected a version that served before ({', '.join(old.version for old in lifecycle.retired)}), got {version}"
    return ""


def _problem_of_refit(command: Mapping[str, Any], lifecycle: Lifecycle, is_refit: Callable[[str], bool]) -> str:
    if command["action"] != _PROMOTE_REFIT or lifecycle.challenger is None or is_refit(lifecycle.challenger.version):
        return ""
    return f"expected a refit of the recipe that serves, found a new recipe: {lifecycle.challenger.version} has to show that it is no worse"


def _problem_of_comparison(version: str, lifecycle: Lifecycle, now: str) -> str:
    tried = lifecycle.challenger
    if lifecycle.champion is None:
        return "expected a version that serves, to compare with, found none: the model has not been promoted yet"
    if version == now:
        return f"expected a version to compare with the one that serves, got {version}, which serves"
    if lifecycle.version(version) is None:
        known = [one.version for one in (*lifecycle.retired, *lifecycle.registered) if one.version != now]
        latest = list(dict.fromkeys(reversed(known)))[:_LATEST]
        return f"expected a registered version of the model (the latest: {', '.join(latest) or 'none'}), got {version or 'none'}"
    if tried is not None and tried.stage == "ab":
        return f"expected no A/B test that runs, found that of {tried.version}; wait for its end, or end it with `tidemill step-back` or `promote`"
    if tried is not None and tried.version != version:
        where = "in shadow" if tried.stage == "shadow" else "as a canary"
        return f"expected nothing that is tried, found {tried.version} {where}; end its trial with `tidemill step-back` or `promote` first"
    return ""


def _problem_of_challenger(action: str, version: str, lifecycle: Lifecycle, now: str) -> str:
    challenger = lifecycle.challenger
    if challenger is None:
        return f"expected a challenger in shadow, as a canary or in an A/B test, found none ({now} serves): ask for one with `tidemill retrain`"
    if version not in ("", challenger.version):
        return f"expected the challenger ({challenger.version}, in {challenger.stage}), got {version}"
    if action == "canary" and challenger.stage != "shadow":
        return f"expected a challenger in shadow, found {challenger.version} in {challenger.stage}"
    return ""
