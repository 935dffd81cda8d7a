"""Whether a training is worth asking for, and what operators want: a fold over findings, commands and journal time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tidemill.services.control.domain.decision import JournalPlace, decision
from tidemill.shared.application.schedule import next_instant, schedule_words
from tidemill.shared.avro.times import instant_text
from tidemill.shared.commands.obeyed import ObeyedCommands

_DAY_MS = 86_400_000
BUDGET_MS = 30 * _DAY_MS
_ENDED, _REFUSED = ("finished", "failed"), "refused"
_LONGEST_ID = 200
CARRIED_OUT = {"retrain": "train", **{name: name for name in ("roll_back", "promote", "step_back", "ab", "pin", "unpin")}}
"""Commands that the retraining worker carries out, and what control asks it for."""
_COMMANDS = (*CARRIED_OUT, "pause", "resume")
PUT_OFF = "put off until"
"""What the reason of an alarm that waits says, with the instant from which on nothing stands in its way."""
UNREADABLE, UNSIGNED = "unreadable", "unsigned"
"""Stand for the command of a record that is none; its reason says what is wrong with it."""
_TRIGGERS = {"loss": "drift", "quality": "drift", "bootstrap": "bootstrap", "new_class": "new_class", "label_volume": "labels"}


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of one model; durations in milliseconds of journal time.

    Attributes
    ----------
    schedule
        So long after the last request, or a cron expression in UTC.
    cpu_ms
        Processor time of the trainings of the last day; None: it is not counted.
    """

    model: str
    cool_down_ms: int
    schedule: int | str | None
    budget: int
    cpu_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _PutOff:
    """An alarm whose training waits until nothing stands in its way.

    Attributes
    ----------
    cause, reason
        Of the alarm, and what stood in its way.
    since
        Instant from which on it waits.
    again
        What tells its training from others that its cause has asked for.
    """

    cause: str
    reason: str
    since: int
    again: str = "put off"


@dataclass(slots=True)
class _Model:
    """State of one model.

    Attributes
    ----------
    slot
        The last request, or the last scheduled one that was skipped: the schedule counts from here.
    obeyed
        Commands, at journal time.
    spent
        By decision, of the last day: instant of the request, and the seconds of processor time that its training says it took.
    put_off
        The first alarm since the last request that could not be followed at once, or whose training was refused.
    """

    policy: Policy
    requests: list[int] = field(default_factory=list)
    paused: bool = False
    slot: int | None = None
    obeyed: ObeyedCommands = field(default_factory=ObeyedCommands)
    spent: dict[str, tuple[int, float]] = field(default_factory=dict)
    put_off: _PutOff | None = None


class RetrainingDecisions:
    """Decides once per cause; the same findings give the same decisions with the same ids.

    Alarms about loss or quality, the first labels, so many further ones, and a new class with labels enough ask for a training. Features that drift
    never do: seasons alone move them. A request is skipped while paused, during the cool-down after the last request and when the budget of the last
    30 days, or the processor time of the last day, is spent; an operator's command overrides cool-down and budgets. What a training took is what its
    own record says, once it has ended: nothing is measured here, and the same records decide alike.

    An alarm that cool-down or a budget stands in the way of is put off: its training is asked for at the instant from which on nothing does, unless
    another one is asked for before, or its incident is over by then. The world has changed, and no further alarm tells so while it stays as it is.
    So it is with one whose training was refused as there was nothing to learn yet (labels that look flipped, no new rows): it is asked for again
    after the cool-down, a day at least. While paused nothing is put off.

    A command is obeyed once, however often it is sent (its id is remembered for 30 days of journal time, the last 10,000 of them): a roll-back
    that a client repeats must not go back twice. A copy of one that is forgotten is refused by the time it was issued at, so a signed command cannot
    be played again later.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._models = {policy.model: _Model(policy) for policy in policies}

    def finding(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Decide on a drift event."""
        trigger = _TRIGGERS.get(record["kind"])
        model = self._models.get(record["model"])
        if trigger is None or model is None or (trigger == "drift" and record["severity"] != "alarm"):
            return []
        at = JournalPlace(record["journal_time"], record["journal_partition"], record["journal_offset"])
        return [self._decide(model, trigger, record["drift_id"], at, f"{record['detector']}: {record['detail']}")]

    def resolved(self, model: str, causes: Collection[str]) -> None:
        """Forget an alarm that was put off where the incident that it belongs to, with these findings, is over: there is nothing left to follow."""
        one = self._models.get(model)
        if one is not None and one.put_off is not None and one.put_off.cause in causes:
            one.put_off = None

    def trained(self, account: Mapping[str, Any], now_ms: int) -> None:
        """Take a record of a training: one that has ended says what it took, and an alarm's that was refused is put off."""
        model, took_s = self._models.get(account["model"]), account["figures"].get("cpu_s", 0.0)
        if model is not None and account["event"] in _ENDED and took_s > 0:
            latest = max([account["journal_time"], *(at for at, _ in model.spent.values())])
            model.spent[account["decision_id"]] = account["journal_time"], took_s
            model.spent = {name: one for name, one in model.spent.items() if one[0] > latest - _DAY_MS}
        is_last = model is not None and model.requests[-1:] == [account["journal_time"]]
        if model is not None and is_last and account["event"] == _REFUSED and account["trigger"] == "drift" and not model.paused:
            since = max(account["journal_time"] + max(model.policy.cool_down_ms, _DAY_MS), now_ms)
            model.put_off = _PutOff(account["details"]["cause"], f"refused: {account['reason']}", since, f"refused {account['decision_id']}")

    def advance(self, time_ms: int) -> list[dict[str, Any]]:
        """Ask for the trainings that are due by an instant: those that were put off, and scheduled ones."""
        said = []
        for model in self._models.values():
            while (due := _next(model)) is not None and due <= time_ms:
                said.append(self._due(model, due))
        return said

    def _due(self, model: _Model, due: int) -> dict[str, Any]:
        """Return the decision on what is due at an instant; what was put off goes before the schedule."""
        at, waiting, schedule = JournalPlace(due), model.put_off, model.policy.schedule
        if waiting is not None and _free(model) == due:
            self._remember(model, due)
            return _train(model, "requested", "drift", waiting.cause, at, f"put off: {waiting.reason}", again=waiting.again)
        reason = "" if schedule is None else schedule_words(schedule)
        if (obstacle := _obstacle(model, due)) is not None:
            model.slot = due
            return _train(model, "skipped", "schedule", str(due), at, f"{obstacle} ({reason})")
        self._remember(model, due)
        return _train(model, "requested", "schedule", str(due), at, reason)

    def command(self, record: Mapping[str, Any], now_ms: int) -> list[dict[str, Any]]:
        """Follow an operator; what cannot be followed is answered with the reason.

        Whether a version exists and who serves is the worker's to say, which has the lifecycle log: two operators may command at once.
        """
        what, cause = record["command"], record["command_id"]
        model = self._models.get(record["model"])
        problem = f"expected one of the models {', '.join(self._models)}, got {record['model']}" if model is None else _problem(model, record)
        if model is None or problem:
            return [_commanded(record, "refused", now_ms, f"{what}: {problem}")]
        issued = int(record.get("issued_at") or 0)
        model.obeyed.add(cause, issued, now_ms)
        if what in ("pause", "resume"):
            model.paused = what == "pause"
            if model.put_off is not None:
                model.put_off = replace(model.put_off, since=max(model.put_off.since, now_ms))
            return [_commanded(record, "obeyed", now_ms, record["reason"])]
        if what == "retrain":
            self._remember(model, now_ms)
        return [_commanded(record, "requested", now_ms, record["reason"])]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {
            name: {
                "requests": model.requests, "paused": model.paused, "slot": model.slot,
                **model.obeyed.snapshot(), "spent": {decision: list(took) for decision, took in model.spent.items()},
                "put_off": None if model.put_off is None else asdict(model.put_off),
            }
            for name, model in self._models.items()
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot."""
        for name, saved in state.items():
            if name in self._models:
                model = self._models[name]
                model.requests, model.paused, model.slot = list(saved["requests"]), saved["paused"], saved["slot"]
                model.obeyed.load(saved)
                model.spent = {decision: (at, took_s) for decision, (at, took_s) in saved.get("spent", {}).items()}
                put_off = saved.get("put_off")
                model.put_off = None if put_off is None else _PutOff(**put_off)

    def _decide(self, model: _Model, trigger: str, cause: str, at: JournalPlace, reason: str) -> dict[str, Any]:
        obstacle = _obstacle(model, at.time_ms)
        if obstacle is not None:
            if trigger == "drift" and not model.paused:
                model.put_off = model.put_off or _PutOff(cause, f"{obstacle} ({reason})", at.time_ms)
                obstacle += f"; {PUT_OFF} {instant_text(_free(model) or at.time_ms)}"
            return _train(model, "skipped", trigger, cause, at, f"{obstacle} ({reason})")
        self._remember(model, at.time_ms)
        return _train(model, "requested", trigger, cause, at, reason)

    def _remember(self, model: _Model, time_ms: int) -> None:
        model.requests = [time for time in model.requests if time > time_ms - BUDGET_MS] + [time_ms]
        model.slot, model.put_off = time_ms, None


def _obstacle(model: _Model, now_ms: int) -> str | None:
    """Return what stands in the way of a request at an instant; None if nothing does."""
    if model.paused:
        return "paused"
    recent = [time for time in model.requests if time > now_ms - BUDGET_MS]
    if model.requests and now_ms < model.requests[-1] + model.policy.cool_down_ms:
        return f"cool-down: {(now_ms - model.requests[-1]) / 3_600_000:.0f} h after the last request"
    if len(recent) >= model.policy.budget:
        return f"budget: {len(recent)} requests in 30 days"
    took_s = sum(seconds for at, seconds in model.spent.values() if at > now_ms - _DAY_MS)
    if model.policy.cpu_ms is not None and took_s * 1e3 >= model.policy.cpu_ms:
        return f"budget: trainings of the last day took {took_s:.1f} s of processor time, {model.policy.cpu_ms / 1e3:g} s are allowed"
    return None


def _free(model: _Model) -> int | None:
    """Return the first instant from which on nothing stands in the way of what was put off; None where nothing was, and while paused."""
    if model.put_off is None or model.paused:
        return None
    since = model.put_off.since
    ends = [*(at + BUDGET_MS for at in model.requests), *(at + _DAY_MS for at, _ in model.spent.values())]
    ends += [model.requests[-1] + model.policy.cool_down_ms] if model.requests else []
    return next(instant for instant in [since, *sorted(end for end in ends if end > since)] if _obstacle(model, instant) is None)


def _next(model: _Model) -> int | None:
    """Return when the next training that is not asked for by a record is due."""
    return min((instant for instant in (_free(model), _scheduled(model)) if instant is not None), default=None)


def _scheduled(model: _Model) -> int | None:
    return None if model.policy.schedule is None or model.slot is None else next_instant(model.policy.schedule, model.slot)


def _problem(model: _Model, record: Mapping[str, Any]) -> str:
    """Return why a command cannot be followed; empty when it can."""
    what, cause, issued = record["command"], record["command_id"], int(record.get("issued_at") or 0)
    if not cause:
        return "expected a command_id, by which a repeated command is known, got none"
    if len(cause) > _LONGEST_ID:
        return f"expected a command_id of at most {_LONGEST_ID} characters, got {len(cause)}"
    if cause in model.obeyed:
        return f"command {cause} was followed before"
    if what in (UNREADABLE, UNSIGNED):
        return str(record["reason"])
    if what not in _COMMANDS:
        return f"expected {', '.join(_COMMANDS[:-1])} or {_COMMANDS[-1]} ({record['reason']})"
    share = record.get("share", 0.0)
    if share and what != "ab":
        return f"expected a share with ab only, got {share:g}"
    if what == "ab" and not 0 <= share < 1:
        return f"expected a share of the requests above 0 and below 1 (0: the application's), got {share:g}"
    if issued <= model.obeyed.forgotten:
        return f"expected a command newer than those forgotten (issued after {model.obeyed.forgotten}), got one of {issued}"
    return ""


def _train(model: _Model, verdict: str, trigger: str, cause: str, at: JournalPlace, reason: str, again: str = "") -> dict[str, Any]:
    return decision(model.policy.model, "train", verdict, trigger, cause, at, reason, again)


def _commanded(record: Mapping[str, Any], verdict: str, now_ms: int, reason: str) -> dict[str, Any]:
    what = record["command"]
    action = CARRIED_OUT.get(what, what if what in _COMMANDS else "unknown")
    said = decision(record["model"], action, verdict, "manual", record["command_id"], JournalPlace(now_ms), reason)
    given = {name: record.get(name, "") for name in ("version", "serving", "operator")}
    return {**said, **given, "issued_at": record.get("issued_at"), "share": record.get("share", 0.0) if verdict == "requested" else 0.0}
