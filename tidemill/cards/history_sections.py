"""The parts of a card about what happened to a version."""

import math

from tidemill.cards.history import VersionEvent, VersionHistory
from tidemill.cards.tables import table
from tidemill.shared.avro.times import instant_text

_NOT_KEPT = '<p class="none">This archive has no lifecycle log: it was written by a version of Tidemill that did not keep it.</p>'
_NAMES = {"shadow": "shadow (answers nobody)", "canary": "canary", "ab": "A/B test", "champion": "champion"}
_SHOWN_FIGURES = 8


def stays(history: VersionHistory) -> str:
    """Return when the version was in which stage."""
    if not history.is_kept:
        return _NOT_KEPT
    rows = [
        (
            _NAMES[one.stage],
            f"{one.share:.3g}",
            _instant(one.from_ms),
            _instant(one.until_ms) if one.until_ms is not None else "lasts",
            _duration((one.until_ms - one.from_ms) if one.until_ms is not None else None),
            one.ended_by.replace("_", " "),
        )
        for one in history.stays
    ]
    return table(("stage", "share", "from", "to", "days", "ended by"), rows) if rows else '<p class="none">It never left the registry.</p>'


def comparisons(history: VersionHistory) -> str:
    """Return what trials have shown."""
    rows = [
        (
            _NAMES[one.stage],
            one.champion,
            str(one.blocks),
            f"{one.labels:,}",
            _figure(one.champion_loss),
            _figure(one.challenger_loss),
            _figure(one.challenger_loss - one.champion_loss, "+"),
        )
        for one in history.comparisons
    ]
    headers = ("stage", "champion", "blocks", "labels", "champion's loss", "its own loss", "difference")
    return table(headers, rows) if rows else '<p class="none">None.</p>'


def events(history: VersionHistory) -> str:
    """Return the lifecycle events about the version, and why."""
    if not history.is_kept:
        return _NOT_KEPT
    rows = [(_instant(one.deployment["journal_time"]), one.deployment["event"].replace("_", " "), *_why(one)) for one in history.events]
    return table(("when", "event", "why", "decided by", "figures"), rows)


def incidents(history: VersionHistory) -> str:
    """Return the incidents while the version answered."""
    if not history.is_kept:
        return _NOT_KEPT
    rows = [
        (
            _instant(one.newest["opened"]),
            one.newest["status"] if one.over_ms is None else f"over {_instant(one.over_ms)}",
            one.newest["severity"],
            one.newest["root"],
            one.newest["likely_cause"],
            one.newest["action"] or "nothing yet",
        )
        for one in history.incidents
    ]
    return table(("opened", "now", "severity", "root", "likely cause", "done about it"), rows) if rows else '<p class="none">None.</p>'


def _why(event: VersionEvent) -> tuple[str, str, str]:
    deployment, decision = event.deployment, event.decision
    reason = deployment["reason"] or (decision["reason"] if decision else "")
    operator = deployment["operator"] or (decision["operator"] if decision else "")
    trigger = f"control ({decision['trigger']})" if decision else "the worker of the lifecycle"
    figures = {**deployment["figures"], **(decision["figures"] if decision else {})}
    shown = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in sorted(figures.items())[:_SHOWN_FIGURES]]
    more = len(figures) - len(shown)
    return reason, operator or trigger, ", ".join(shown) + (f", and {more} more" if more else "")


def _instant(time_ms: int) -> str:
    return instant_text(time_ms)[:19]


def _duration(span_ms: int | None) -> str:
    return "" if span_ms is None else f"{span_ms / 86_400_000:.1f}"


def _figure(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.4g}"
