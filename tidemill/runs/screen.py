"""The live screen of a replay."""

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from tidemill.runs.kernel_cache import compiled_kernels
from tidemill.runs.metric_words import metric_text, metric_words
from tidemill.runs.safe_console import SafeConsole
from tidemill.runs.verdict import Standstill
from tidemill.runs.watch import RunState
from tidemill.shared.avro.times import instant_text
from tidemill.shared.models.deployments import Lifecycles
from tidemill.shared.service.stage import FUSIBLE

_REFRESH_S = 0.5
_PLAIN_S = 15.0
_QUALITY_WINDOWS = 7
_MAIN = ("auc", "mean_absolute_error", "accuracy")
_HOUR_MS = 3_600_000
_PUT_OFF = "; put off until "


class Screen:
    """Shows how a replay goes; where there is no terminal, a line every quarter of a minute instead."""

    def __init__(self, events: int, console: Console | None = None) -> None:
        self._events = events
        self._console = console or SafeConsole()
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        self._started = time.monotonic()
        self._compiled = compiled_kernels()
        self._shown = 0.0
        self._rate = (self._started, 0)
        self._standstill = Standstill()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, instant: int, published: int, seen: RunState) -> None:
        """Show where things stand; cheap to call often."""
        now = time.monotonic()
        if now - self._shown < (_REFRESH_S if self._live is not None else _PLAIN_S):
            return
        rate = (published - self._rate[1]) / max(now - self._rate[0], 1e-9)
        self._shown, self._rate = now, (now, published)
        rows = self._rows(instant, published, rate, seen)
        if not seen.has_begun("scoring"):
            waiting = waiting_text(seen, compiled_kernels() - self._compiled)
            rows = [("waiting for the first prediction", f"{now - self._started:.0f} s"), ("stages", waiting), rows[1], rows[-1]]
        if self._live is None:
            self._console.print(" · ".join(f"{name} {value}" for name, value in rows[:-1]), highlight=False, soft_wrap=True)
            return
        table = Table(show_header=False, title=f"Tidemill · {now - self._started:.0f} s", title_justify="left", box=None)
        for name, value in rows:
            table.add_row(f"[dim]{name}[/dim]", value)
            if name == "events":
                table.add_row("", ProgressBar(total=max(1, self._events), completed=published, width=60))
        self._live.update(table, refresh=True)

    def _rows(self, instant: int, published: int, rate: float, seen: RunState) -> list[tuple[str, str]]:
        asked = [{**record, "event": record["verdict"]} for record in seen.decisions if record["verdict"] == "requested"]
        decided = sorted([*asked, *seen.retraining], key=lambda record: int(record["journal_time"]))
        promotions, refusals = (seen.count(seen.deployments, event) for event in ("promoted", "gate_refused"))
        trained, failed = (seen.count(seen.retraining, event) for event in ("finished", "failed"))
        broken = f"[red]{failed} failed[/red]" if failed else "0 failed"
        return [
            ("event time", instant_text(instant)[:16].replace("T", " ")),
            ("events", f"{published:,} of {self._events:,} ({rate:,.0f}/s)"),
            ("quality, last days", quality_text(seen)),
            ("incidents", incidents_text(seen)),
            ("models", f"{trained} trained, {broken}, {promotions} promoted, {refusals} refused"),
            *([("tried now", tried)] if (tried := tried_text(seen)) else []),
            *([("put off", waits)] if (waits := put_off_text(seen)) else []),
            ("rejected", rejected_text(seen)),
            ("lag", lag_text(instant, seen, self._standstill.stages(seen, time.monotonic()))),
            ("last decision", escape(f"{decided[-1]['event']}: {decided[-1]['reason'][:110]}") if decided else "-"),
        ]


def waiting_text(seen: RunState, compiled: int) -> str:
    """Return what the first prediction waits for.

    Parameters
    ----------
    compiled
        Kernels that were compiled since the screen was opened: many on the first run of a machine, none later.
    """
    started = {stage for stage, _ in seen.progress}
    states = ["works" if seen.has_begun(stage) else "started" if stage in started else "starting" for stage in FUSIBLE]
    kernels = f"; {compiled} kernels compiled so far, which a machine does once" if compiled else ""
    return ", ".join(f"{stage} {state}" for stage, state in zip(FUSIBLE, states, strict=True)) + kernels


def tried_text(seen: RunState) -> str:
    """Return what is tried beside which champion, in which stage and since when; empty where nothing is."""
    words = {"shadow": "in shadow", "canary": "as a canary", "ab": "in an A/B test"}
    tried = []
    for name, lifecycle in Lifecycles().follow(seen.deployments).models.items():
        one, champion = lifecycle.challenger, lifecycle.champion
        if one is not None and champion is not None:
            share = "" if one.stage == "shadow" else f" with {one.share:.0%} of the requests"
            tried.append(f"{name}: {one.version} {words[one.stage]}{share} beside {champion.version}, since {instant_text(one.since_ms)[:10]}")
    return escape("; ".join(tried))


def put_off_text(seen: RunState) -> str:
    """Return which alarms wait for their training, until when and what stands in its way; empty where none does."""
    waiting: dict[str, Mapping[str, object]] = {}
    for one in seen.decisions:
        if one["action"] == "train" and one["verdict"] == "requested":
            waiting.pop(one["model"], None)
        elif _PUT_OFF in one["reason"]:
            waiting.setdefault(one["model"], one)
    over = {cause for one in seen.newest_incidents() if one["status"] == "resolved" for cause in one["drift_ids"]}
    told = [f"{model}: {str(one['reason']).split(' (')[0]}" for model, one in waiting.items() if one["cause"] not in over]
    return escape("; ".join(told))


def incidents_text(seen: RunState) -> str:
    """Return how many incidents there are and were, and what the worst open one is likely to come from."""
    newest = seen.newest_incidents()
    lasting = [one for one in newest if one["status"] != "resolved"]
    worst = max(lasting, key=lambda one: (one["severity"] == "alarm", one["opened"]), default=None)
    counts = f"{len(lasting)} open, {len(newest) - len(lasting)} resolved, {sum(one['severity'] == 'alarm' for one in newest)} with an alarm"
    return f"{counts}; {escape(worst['likely_cause'])}" if worst is not None else counts


def quality_text(seen: RunState) -> str:
    """Return each model's mean of its main metric over its last windows.

    A model has the first of AUC, mean absolute error and accuracy that its windows have.
    """
    windows: dict[str, list[Mapping[str, float]]] = {}
    for record in seen.health:
        windows.setdefault(record["model"], []).append(record["metrics"])
    told = []
    for model, metrics in windows.items():
        last = metrics[-_QUALITY_WINDOWS:]
        name = next((name for name in _MAIN if any(name in one for one in last)), None)
        if name is not None:
            values = [one[name] for one in last if name in one]
            words = f"{metric_words(name)} {metric_text(name, sum(values) / len(values))}"
            told.append(words if len(windows) == 1 else f"{model} {words}")
    return ", ".join(told) or "-"


def rejected_text(seen: RunState) -> str:
    """Return the dead letters by reason, the most frequent first."""
    reasons = Counter[str]()
    for (_, _, reason), count in seen.rejected.items():
        reasons[reason] += count
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) or "none"


def lag_text(instant: int, seen: RunState, standing: Mapping[str, float]) -> str:
    """Return how far the slowest stage is behind an instant; one that has covered nothing yet has no lag, it has not begun."""
    waiting = sorted({stage for (stage, _), progress in seen.progress.items() if progress.covered_time <= 0})
    begun = [(progress.covered_time, stage) for (stage, _), progress in seen.progress.items() if progress.covered_time > 0]
    slowest = min(begun, default=(instant, "-"))
    lag_ms = max(0, instant - slowest[0])
    parts = [f"{lag_ms / _HOUR_MS:.0f} h of event time ({slowest[1]})"] if lag_ms and begun else []
    parts += [f"not begun: {', '.join(waiting)}"] if waiting else []
    parts += [f"[red]{stage} has stood still for {seconds:.0f} s[/red]" for stage, seconds in standing.items()]
    return "; ".join(parts) or "none"
