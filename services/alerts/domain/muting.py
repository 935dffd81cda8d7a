"""Which alerts are muted: by the application file, and by commands of operators."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from tidemill.shared.application.alerts import Mute
from tidemill.shared.commands.obeyed import FOLLOWED, ObeyedCommands
from tidemill.shared.commands.signing import MUTE_ALERTS, UNMUTE_ALERTS
from tidemill.shared.instant import utc


@dataclass(frozen=True, slots=True)
class CommandedMute:
    """A mute that an operator has commanded.

    Attributes
    ----------
    rules
        Patterns of rule names; ``*`` stands for anything.
    model
        Pattern of the model's name. A rule whose records name no model is muted by ``*`` only.
    until_ms
        End on the clock of alerts, exclusive; None: until it is unmuted.
    """

    command_id: str
    rules: tuple[str, ...]
    model: str
    until_ms: int | None
    operator: str
    reason: str

    def covers(self, rule: str, model: str) -> bool:
        """Whether it mutes the alerts of a rule for a model."""
        return fnmatchcase(model, self.model) and any(fnmatchcase(rule, pattern) for pattern in self.rules)

    @staticmethod
    def load(state: Mapping[str, Any]) -> "CommandedMute":
        """From a snapshot."""
        return CommandedMute(**{**state, "rules": tuple(state["rules"])})


class Mutes:
    """Declared mutes and commanded ones; the latter are state.

    A command that comes again (the same id), also as a copy long after, changes nothing. A mute that is over is dropped.
    """

    def __init__(self, declared: Sequence[Mute] = ()) -> None:
        self._declared = tuple(declared)
        self._commanded: dict[str, CommandedMute] = {}
        self._obeyed = ObeyedCommands()

    def covers(self, rule: str, model: str, now_ms: int) -> bool:
        """Whether alerts of a rule for a model (empty: none) are muted at an instant."""
        return any(mute.holds_at(now_ms) and mute.covers(rule, model) for mute in self._declared) or any(
            (mute.until_ms is None or now_ms < mute.until_ms) and mute.covers(rule, model) for mute in self._commanded.values()
        )

    def expire(self, now_ms: int) -> None:
        """Drop what is over."""
        over = [one.command_id for one in self._commanded.values() if one.until_ms is not None and one.until_ms <= now_ms]
        for command_id in over:
            del self._commanded[command_id]

    def obey(self, command: Mapping[str, Any], begin_ms: int, now_ms: int) -> str | None:
        """Follow a command to mute or to unmute, and say what was done; None: it is another command.

        Parameters
        ----------
        command
            A `tidemill.Command` whose signature was checked.
        begin_ms
            Instant that its duration counts from, on the clock of alerts.
        """
        if command["command"] not in (MUTE_ALERTS, UNMUTE_ALERTS):
            return None
        rules, model = patterns(command["rules"]), command["model"] or "*"
        cause, issued = command["command_id"], int(command.get("issued_at") or 0)
        obstacle = FOLLOWED if cause in self._commanded else self._obeyed.obstacle(cause, issued)
        if obstacle:
            return f"{_what(rules, model)}: {obstacle}"
        self._obeyed.add(cause, issued, now_ms)
        who, why = command["operator"] or "an unnamed operator", command["reason"] or "no reason given"
        if command["command"] == UNMUTE_ALERTS:
            ended = [one for one in self._commanded.values() if fnmatchcase(one.model, model) and all(_any(rule, rules) for rule in one.rules)]
            for one in ended:
                del self._commanded[one.command_id]
            what = "; ".join(f"{_what(one.rules, one.model)}, muted by {one.operator or 'an unnamed operator'}" for one in ended)
            what = what or f"nothing, as no command mutes {_what(rules, model)}"
            return f"{who} unmuted {what}: {why}"
        until = begin_ms + command["duration_ms"] if command["duration_ms"] > 0 else None
        if until is not None and until <= now_ms:
            return f"{_what(rules, model)}: the mute was over before its command was read"
        self._commanded[cause] = CommandedMute(cause, rules, model, until, command["operator"], command["reason"])
        end = "it is unmuted" if until is None else utc(until).isoformat(timespec="seconds")
        return f"{who} muted {_what(rules, model)} until {end}: {why}"

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        return {"mutes": [{**asdict(one), "rules": list(one.rules)} for one in self._commanded.values()], "obeyed": self._obeyed.snapshot()}

    def load(self, state: Mapping[str, Any], *, endless: bool = False) -> None:
        """Take the state of a snapshot; one of an earlier version has no such fields.

        Parameters
        ----------
        endless
            Of the mutes, only those that have no end: the clock is another one.
        """
        mutes = map(CommandedMute.load, state.get("mutes", []))
        self._commanded = {one.command_id: one for one in mutes if one.until_ms is None or not endless}
        self._obeyed.load(state.get("obeyed", {}))


def patterns(rules: str) -> tuple[str, ...]:
    """Return the patterns of a command; none named means all rules.

    >>> patterns("lag, stage_*"), patterns("")
    (('lag', 'stage_*'), ('*',))
    """
    return tuple(part.strip() for part in rules.split(",") if part.strip()) or ("*",)


def _any(rule: str, wanted: Sequence[str]) -> bool:
    return any(fnmatchcase(rule, pattern) for pattern in wanted)


def _what(rules: Sequence[str], model: str) -> str:
    return ", ".join(rules) + ("" if model == "*" else f" of {model}")
