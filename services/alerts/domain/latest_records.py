"""The newest record of each group of the rules that ask how old something is."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tidemill.services.alerts.domain.rows import AlertInput, Fields, record_batch
from tidemill.services.alerts.domain.series import series_key
from tidemill.shared.application.alert_rules import CompiledRule
from tidemill.shared.application.alerts import AlertSource


class AgedRecord(NamedTuple):
    """A group's newest record, and whether its rule's condition holds for it at its present age."""

    rule: CompiledRule
    key: tuple[str, ...]
    holds: bool
    origin: str
    fields: Fields


class LatestRecords:
    """Keeps the newest record of each group, because time alone can make a condition on its age true.

    Parameters
    ----------
    rules
        All of them; those that do not ask for an age are passed over.
    """

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = [rule for rule in rules if rule.ages]
        self._latest: dict[tuple[str, ...], tuple[int, Fields, str]] = {}

    def keep(self, key: tuple[str, ...], record: AlertInput) -> None:
        """Take a group's newest record."""
        self._latest[key] = record.time_ms, record.fields, record.origin

    def expect(self, source: AlertSource, record: AlertInput) -> None:
        """Take a record that nobody has written, for each group that has none: a stage that never says anything is missed, too."""
        batch = record_batch(source, [(record.time_ms, record.fields)], [record.time_ms])
        for rule in self._rules:
            if rule.source == source and (rule.where is None or rule.where.evaluate(batch)[0].as_py() is True):
                self._latest.setdefault(series_key(rule, record.fields), (record.time_ms, record.fields, record.origin))

    def at(self, clock_ms: int) -> Iterator[AgedRecord]:
        """Judge every group at an instant, rule by rule."""
        for rule in self._rules:
            latest = [(key, one) for key, one in sorted(self._latest.items(), key=lambda item: item[0]) if key[0] == rule.name]
            if not latest:
                continue
            batch = record_batch(rule.source, [(time_ms, fields) for _, (time_ms, fields, _) in latest], [clock_ms] * len(latest))
            for (key, (_, fields, origin)), holds in zip(latest, rule.when.evaluate(batch).to_pylist(), strict=True):
                yield AgedRecord(rule, key, holds is True, origin, fields)

    def snapshot(self) -> list[list[Any]]:
        """State as plain lists, texts and numbers."""
        return [[list(key), *latest] for key, latest in sorted(self._latest.items(), key=lambda item: item[0])]

    def load(self, state: Iterable[Sequence[Any]]) -> None:
        """Take the state of a snapshot; groups of rules that are gone are dropped."""
        names = {rule.name for rule in self._rules}
        self._latest = {tuple(key): (time_ms, fields, origin) for key, time_ms, fields, origin in state if key[0] in names}
