"""What an operator's command does to the lifecycle of a model: a pure decision on where the model stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.shared.models.deployments import Lifecycle, ModelDeployment

_NOTHING = ModelDeployment("", "", -1, 0.5)


@dataclass(frozen=True, slots=True)
class Obeyed:
    """The lifecycle event that answers a command: rolled_back, pinned, unpinned or command_refused, the version it is about, and why."""

    event: str
    deployment: ModelDeployment
    reason: str


def obey(command: Mapping[str, Any], lifecycle: Lifecycle) -> Obeyed:
    """Carry out a command, or refuse it with what was expected and what is.

    Two operators who command at once each saw the same version in service. The first is followed; the second names a version that serves no more
    (`serving`) and is refused, instead of rolling back once more than anybody wanted.
    """
    if problem := _problem(command, lifecycle):
        return Obeyed("command_refused", lifecycle.champion or _NOTHING, f"{command['action']}: {problem}")
    champion = lifecycle.champion or _NOTHING
    if command["action"] == "roll_back":
        target = lifecycle.served_before(command["version"]) if command["version"] else lifecycle.retired[-1]
        return Obeyed("rolled_back", target or _NOTHING, f"asked for: {command['reason']}")
    return Obeyed("pinned" if command["action"] == "pin" else "unpinned", champion, command["reason"])


def _problem(command: Mapping[str, Any], lifecycle: Lifecycle) -> str:
    action, version, serving = command["action"], command["version"], command["serving"]
    now = lifecycle.champion.version if lifecycle.champion else "nothing"
    if serving and serving != now:
        return f"expected {serving} to serve, as when the command was given, found {now}: somebody else was faster; look again"
    if action == "unpin":
        return "" if lifecycle.pin else f"expected a version that is pinned, found none ({now} serves)"
    if lifecycle.pin is not None:
        return f"expected a model that is not pinned, found {lifecycle.pin}; unpin it first"
    if action == "pin":
        if lifecycle.champion is None:
            return "expected a version that serves, found none: the model has not been promoted yet"
        return f"expected the version that serves ({now}), got {version}; roll back to it first" if version not in ("", now) else ""
    if action != "roll_back":
        return f"expected roll_back, pin or unpin, got {action}"
    if not lifecycle.retired:
        return "there is no earlier champion to roll back to"
    if version == now:
        return f"{version} serves already"
    if version and lifecycle.served_before(version) is None:
        return f"expected a version that served before ({', '.join(old.version for old in lifecycle.retired)}), got {version}"
    return ""
