"""Alerts as a fold over records and ticks: what is pending, what is firing, what is still to be sent."""

import json
from collections.abc import Mapping, Sequence

from tidemill.services.alerts.domain.latest_records import LatestRecords
from tidemill.services.alerts.domain.muting import Mutes
from tidemill.services.alerts.domain.notification import Message, Notification, Status, digest
from tidemill.services.alerts.domain.outbox import Outbox
from tidemill.services.alerts.domain.policy import AlertPolicy
from tidemill.services.alerts.domain.rows import AlertInput, Fields, record_batch
from tidemill.services.alerts.domain.series import Series, series_key
from tidemill.shared.application.alert_rules import CompiledRule
from tidemill.shared.application.alerts import ALWAYS_THERE, AlertSource

VERSION = 1
CROWDED = "too_many_alerts"
MUTED = "mute"
_MOST_SERIES = 1_000
# No old record for so long: what was there before the installation is read.
_BACKLOG_MS = 60_000


class AlertFold:
    """The state machine. Pure: its clock is what records and ticks say, and it sends nothing; what is to be sent lies in `outbox`.

    Records that it has taken before are skipped (`positions`), so that they may come again. Any batching gives the same as one by one, and so does
    a restart from `snapshot` at any place.

    Parameters
    ----------
    rules
        With names of their own.
    """

    def __init__(self, rules: Sequence[CompiledRule], policy: AlertPolicy) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._policy = policy
        self.clock_ms = -1
        self.began_ms = -1
        self._ages_from_ms = -1  # not part of the state
        self._crowded_ms = -1
        self._history_read_ms = -1
        self._mutes = Mutes(policy.mutes)
        self.positions: dict[str, int] = {}
        self._outbox = Outbox(policy)
        self._series: dict[tuple[str, ...], Series] = {}
        self._latest = LatestRecords(rules)

    @property
    def outbox(self) -> Mapping[str, Message]:
        """What is to be sent, by message id."""
        return self._outbox.messages

    @property
    def firing(self) -> list[Series]:
        """Alerts that are firing."""
        return [series for series in self._series.values() if series.firing]

    def take(self, source: AlertSource, records: Sequence[AlertInput]) -> None:
        """Take records of a topic, in the order of each partition."""
        fresh: list[AlertInput] = []
        for record in records:
            place = f"{record.topic}:{record.partition}"
            if record.offset >= self.positions.get(place, 0):
                self.positions[place] = record.offset + 1
                fresh.append(record)
        if not fresh:
            return
        clocks, clock = [], self.clock_ms
        for record in fresh:
            clock = max(clock, record.time_ms)
            clocks.append(clock)
        rules = [rule for rule in self._rules.values() if rule.source == source]
        batch = record_batch(source, [(record.time_ms, record.fields) for record in fresh], clocks)
        concerned = [None if rule.where is None else rule.where.evaluate(batch).to_pylist() for rule in rules]
        holds = [rule.when.evaluate(batch).to_pylist() for rule in rules]
        for i, record in enumerate(fresh):
            self._pass_to(clocks[i])
            for rule, of_rule, condition in zip(rules, concerned, holds, strict=True):
                if of_rule is None or of_rule[i] is True:
                    self._apply(rule, record, condition[i] is True)

    def resume(self, now_ms: int, catch_up_ms: int) -> None:
        """Move the clock on after a start: until `catch_up_ms` later ages say nothing, as what was written meanwhile has to be read first."""
        self._ages_from_ms = now_ms + catch_up_ms
        self.tick(now_ms)

    def tick(self, now_ms: int) -> None:
        """Move the clock on; it never goes back."""
        self._pass_to(max(now_ms, self.clock_ms))

    def order(self, records: Sequence[AlertInput], *, at_clock: bool) -> None:
        """Follow commands to mute and to unmute, and tell log and topic who has commanded what and why.

        Parameters
        ----------
        records
            Of the topic of commands; `fields` are those of `tidemill.Command`, their signature is checked.
        at_clock
            Whether durations count from the clock, not from the instant of the command (replays, whose clock is another than the operator's).
        """
        for record in records:
            place = f"{record.topic}:{record.partition}"
            if record.offset < self.positions.get(place, 0):
                continue
            self.positions[place] = record.offset + 1
            begin = self.clock_ms if at_clock else record.time_ms
            done = self._mutes.obey(record.fields, begin, self.clock_ms)
            if done is None or self._is_history(record.time_ms):
                continue
            origin = record.origin
            labels = {name: str(record.fields[name]) for name in ("command_id", "command", "operator", "rules", "model")}
            notification = Notification(
                digest(MUTED, origin), MUTED, "information", 1, "info", self._policy.owner, done, "", self.clock_ms, begin, 1, origin, True, labels
            )
            self._outbox.post(notification, ALWAYS_THERE)

    def finish(self) -> None:
        """Send what waits for others of its group: nobody will move the clock on any more (the end of a replay)."""
        self._outbox.finish()

    def expect(self, source: AlertSource, topic: str, partition: int, fields: Fields) -> None:
        """Take note of a group that ought to write, as if it had written now: a stage that never says anything is missed, too."""
        self._latest.expect(source, AlertInput(topic, partition, -1, self.clock_ms, fields))

    def delivered(self, message_id: str) -> None:
        """A message has reached its receiver."""
        self._outbox.delivered(message_id)

    def undelivered(self, message_id: str, reason: str) -> None:
        """A message is given up; the other channels are told, unless it says that itself."""
        self._outbox.undelivered(message_id, reason, self.clock_ms)

    def snapshot(self) -> bytes:
        """State as JSON: the same state, the same bytes."""
        return json.dumps(
            {
                "version": VERSION,
                "clock": self.clock_ms,
                "clock_kind": self._policy.clock,
                "began": self.began_ms,
                "crowded": self._crowded_ms,
                "history_read": self._history_read_ms,
                **self._mutes.snapshot(),
                "positions": dict(sorted(self.positions.items())),
                "series": [series.snapshot() for _, series in sorted(self._series.items())],
                "kept": self._latest.snapshot(),
                **self._outbox.snapshot(),
            }
        ).encode()

    def load(self, state: bytes) -> None:
        """Take the state of a snapshot; what belongs to rules that are gone is dropped, what was to be sent is kept.

        Of a state on the other clock (a run that was a replay goes on live) that is all, with what was read and the mutes that have no end: how long
        a condition has held, and when something is over, is known on its own clock only.

        Raises
        ------
        ValueError
            Another version wrote it.
        """
        read = json.loads(state)
        if read["version"] != VERSION:
            raise ValueError(f"state of alerts: expected version {VERSION}, came {read['version']}")
        self.positions = read["positions"]
        # States of an earlier version do not say whose clock it is.
        if read.get("clock_kind", self._policy.clock) != self._policy.clock:
            self._mutes.load(read, endless=True)
            self._outbox.load(read["groups"], read["outbox"])
            self._outbox.finish()
            return
        self.clock_ms, self.began_ms = read["clock"], read["began"]
        self._crowded_ms = read["crowded"]
        # States of an earlier version have no such fields.
        self._history_read_ms = read.get("history_read", -1)
        self._mutes.load(read)
        series = [Series.load(one) for one in read["series"]]
        self._series = {(one.rule, *one.key): one for one in series if one.rule in self._rules}
        self._latest.load(read["kept"])
        self._outbox.load(read["groups"], read["outbox"])

    def _apply(self, rule: CompiledRule, record: AlertInput, holds: bool) -> None:
        key, origin = series_key(rule, record.fields), record.origin
        if rule.ages:
            # Looked at when the clock passes: of a backlog only the newest record says how old something is.
            self._latest.keep(key, record)
        elif rule.is_level:
            is_history = self._is_history(record.time_ms)
            if is_history and rule.source != "progress":  # a stage that is far behind writes old times for ever
                self._history_read_ms = self.clock_ms
            self._set_level(rule, key, holds, origin, record.fields, is_history=is_history)
        elif holds and not self._is_history(record.time_ms):
            self._take_event(rule, key, origin, record.fields)

    def _set_level(
        self, rule: CompiledRule, key: tuple[str, ...], holds: bool, origin: str, fields: Fields, *, record: bool = True, is_history: bool = False
    ) -> None:
        series = self._series.get(key)
        if not holds:
            if series is not None:
                del self._series[key]
                if series.firing:
                    series.fields = fields
                    self._tell(rule, series, "resolved")
            return
        if series is None:
            series = self._new_series(rule, key, origin, fields)
            if series is not None:
                series.is_history = is_history
        elif record:
            series.records, series.fields, series.is_history = series.records + 1, fields, series.is_history and is_history
        if series is not None:
            series.last_ms = self.clock_ms
            self._advance_series(rule, key, series)

    def _take_event(self, rule: CompiledRule, key: tuple[str, ...], origin: str, fields: Fields) -> None:
        if rule.once:
            self._tell(rule, Series(rule.name, key[1:], self.clock_ms, origin, self.clock_ms, fields=fields), "information")
            return
        series = self._series.get(key)
        if series is None:
            opened = self._new_series(rule, key, origin, fields)
            if opened is not None:
                opened.firing = True
                self._tell(rule, opened, "firing")
            return
        series.records, series.fields, series.last_ms = series.records + 1, fields, self.clock_ms
        if self.clock_ms - series.said_ms >= rule.repeat_ms:
            self._tell(rule, series, "repeated")

    def _new_series(self, rule: CompiledRule, key: tuple[str, ...], origin: str, fields: Fields) -> Series | None:
        if len(self._series) >= _MOST_SERIES:
            self._tell_crowded(rule)
            return None
        self._series[key] = Series(rule.name, key[1:], self.clock_ms, origin, self.clock_ms, fields=fields)
        return self._series[key]

    def _advance_series(self, rule: CompiledRule, key: tuple[str, ...], series: Series) -> None:
        """Do what is due at this instant."""
        if series.is_history and self.clock_ms - max(self.began_ms, self._history_read_ms) < _BACKLOG_MS:
            # Its end may be among the records that are still to be read.
            return
        if rule.ages and self.clock_ms < self._ages_from_ms:
            return
        if not series.firing:
            if self.clock_ms - series.since_ms >= rule.holds_ms:
                series.firing = True
                self._tell(rule, series, "firing")
        elif not rule.is_level and self.clock_ms - series.last_ms >= rule.resolve_after_ms:
            del self._series[key]
            self._tell(rule, series, "resolved")
        elif (series.quiet and not self._is_muted(series)) or (rule.is_level and self.clock_ms - series.said_ms >= rule.repeat_ms):
            self._tell(rule, series, "repeated")

    def _pass_to(self, clock_ms: int) -> None:
        before, self.clock_ms = self.clock_ms, clock_ms
        if clock_ms == before:
            return
        if self.began_ms < 0:
            self.began_ms = clock_ms
        every = self._policy.look_every_ms
        self._mutes.expire(clock_ms)
        if before // every != clock_ms // every:
            self._look_at_ages()
        for key, series in sorted(self._series.items()):
            if key in self._series:
                self._advance_series(self._rules[series.rule], key, series)
        self._outbox.pass_to(clock_ms)

    def _look_at_ages(self) -> None:
        if self.clock_ms < self._ages_from_ms:
            return
        for one in self._latest.at(self.clock_ms):
            self._set_level(one.rule, one.key, one.holds, one.origin, one.fields, record=False)

    def _tell(self, rule: CompiledRule, series: Series, status: Status) -> None:
        self._outbox.tell(rule, series.say(rule, status, self.clock_ms, self._is_muted(series)), self.clock_ms)

    def _tell_crowded(self, rule: CompiledRule) -> None:
        """Say, but not for each, that alerts are not kept any more."""
        if self._crowded_ms >= 0 and self.clock_ms - self._crowded_ms < rule.repeat_ms:
            return
        self._crowded_ms = self.clock_ms
        summary = f"More than {_MOST_SERIES:,} alerts at once: further ones are not told, the first of {rule.name}; give its rule coarser groups (by)"
        notification = Notification(
            digest(CROWDED, self.clock_ms), CROWDED, "information", 1, "critical", self._policy.owner, summary, "", self.clock_ms, self.clock_ms
        )
        self._outbox.post(notification, (*ALWAYS_THERE, *self._policy.channels))

    def _is_muted(self, series: Series) -> bool:
        return self._mutes.covers(series.rule, str(series.fields.get("model") or ""), self.clock_ms)

    def _is_history(self, time_ms: int) -> bool:
        policy = self._policy
        if policy.history_ms is None:
            return False
        return time_ms < (self.began_ms - policy.history_ms if policy.since_ms is None else policy.since_ms)
