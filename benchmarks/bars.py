"""The bars the project set itself, each held against the results of one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import median
from typing import Any

Cells = Sequence[Mapping[str, Any]]
TIE, W4_TIE = 1.3, 1.8  # ratios below are ties on a noisy machine


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what is wanted, what was measured, and whether it is met (None: not measured in this run)."""

    what: str
    wanted: str
    measured: str
    met: bool | None


class Figures:
    """Medians of a run's cells by system, workload and measure."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def values(
        self, system: str, workload: str, pick: Callable[[Mapping[str, Any]], float | None], measure: str = "throughput", **facts: object
    ) -> list[float]:
        """Return a figure of every run; empty when there is none."""
        values = []
        for cell in self._cells:
            named = cell["system"] == system and cell["workload"] == workload and cell["measure"] == measure
            if named and all(cell.get(name) == value for name, value in facts.items()):
                values += [value for run in cell["runs"] if (value := pick(run)) is not None]
        return values

    def median(
        self, system: str, workload: str, pick: Callable[[Mapping[str, Any]], float | None], measure: str = "throughput", **facts: object
    ) -> float | None:
        """Return the median, None when nothing was measured."""
        values = self.values(system, workload, pick, measure, **facts)
        return median(values) if values else None

    def rate(self, system: str, workload: str) -> float | None:
        """Return events per CPU second of a system."""
        return self.median(system, workload, lambda run: run.get("events_per_cpu_s"))

    def tidemill_rates(self, workload: str) -> dict[str, float]:
        """Return Tidemill's rates of a workload: of the single stage, of raw topic to result in separate stages, of the fused stage."""
        stage = {"W2": "features", "W3": "features", "W4": "features", "W5": "scoring"}.get(workload)
        place = "W5" if workload == "W4" else workload
        total = {"W4": "w4_total"}.get(workload, "total")
        picks: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
            "single stage": lambda run: run.get("stages", {}).get(stage, {}).get("events_per_cpu_s") if stage else run.get("events_per_cpu_s"),
            "separate": lambda run: run.get("events_per_cpu_s") if workload == "W5" else run.get(total, {}).get("events_per_cpu_s"),
        }
        rates = {name: self.median("Tidemill, stages", place, pick) for name, pick in picks.items()}
        rates["fused"] = self.rate("Tidemill, fused", workload)
        return {name: rate for name, rate in rates.items() if rate is not None}


def bars(cells: Cells) -> list[Bar]:
    """Judge a run."""
    figures = Figures(cells)
    judged = [_at_least("W1 (ingestion: decode, guards, filter, derive, encode)", figures.tidemill_rates("W1").get("single stage"), 250_000)]
    w4 = figures.tidemill_rates("W4")
    whole = w4.get("fused", w4.get("separate"))
    how = "fused" if "fused" in w4 else "ingestion + features"
    judged.append(_at_least(f"W4, raw topic to vectors with guards and dead letters ({how})", whole, 150_000))
    judged.append(_at_least("W4, the features stage alone, from the journal", w4.get("single stage"), 150_000))
    for peer, factor in (("Quix Streams", 8.0), ("Faust", 50.0), ("Kafka Streams", 2.5), ("Flink, heap", 1.0)):
        for name, own in (("raw topic to vectors", whole), ("features stage", w4.get("single stage"))):
            judged.append(_ratio(f"W4, {name} against {peer}", own, figures.rate(peer, "W4"), factor))
    for workload in ("W2", "W3"):
        best = [rate for peer in ("Quix Streams", "Faust", "Kafka Streams", "Flink, heap") if (rate := figures.rate(peer, workload))]
        own = figures.tidemill_rates(workload).get("single stage")
        judged.append(_ratio(f"{workload}, the features stage against the best peer (a tie is enough)", own, max(best, default=None), 1 / TIE))
    w5 = figures.tidemill_rates("W5")
    judged.append(
        _at_least(
            f"W5, raw topic to predictions ({'fused' if 'fused' in w5 else 'ingestion + features + scoring'})",
            w5.get("fused", w5.get("separate")),
            100_000,
        )
    )
    judged += _latency_bars(figures)
    judged += _whole_system_bars(figures)
    judged += _recovery_bars(figures)
    judged.append(_oracle_bar(cells))
    online = "not part of this run: `python -m benchmarks.online_reads`"
    judged += [_model_bar(figures), _scale_out_bar(figures), Bar("online store: writes and reads", "200k writes/s, p99 <= 1 and 2 ms", online, None)]
    return judged


def _latency_bars(figures: Figures) -> list[Bar]:
    judged = []
    for system in ("Tidemill, features stage", "Tidemill, fused"):
        for rate in (1_000, 10_000):
            for name in ("p50_ms", "p99_ms"):
                own = figures.median(system, "W4", itemgetter(name), "latency", events_per_s=rate)
                through = figures.median("pass-through, transactional", "W0", itemgetter(name), "latency", events_per_s=rate)
                what = f"W4 {name[:3]} at {rate:,} events/s, {system.removeprefix('Tidemill, ')}, against the transactional pass-through"
                if own is None or through is None:
                    judged.append(Bar(what, "<= 1.5x", "not measured", None))
                else:
                    judged.append(Bar(what, "<= 1.5x", f"{own:.1f} ms / {through:.1f} ms = {own / through:.2f}x", own <= 1.5 * through))
    return judged


def _whole_system_bars(figures: Figures) -> list[Bar]:
    judged = []
    for topology in ("separate", "fused"):
        sustained = figures.median(f"Tidemill, {topology}", "W6", itemgetter("events_per_s"), "system")
        judged.append(_at_least(f"W6, everything on two cores with the broker, sustained, {topology}", sustained, 30_000, "events/s"))
    for system, limit in (("Tidemill, separate", 100.0), ("Tidemill, fused", 40.0)):
        p99 = figures.median(system, "W6", lambda run: run.get("p99_ms"), "latency")
        measured = "not measured" if p99 is None else f"{p99:.1f} ms"
        judged.append(
            Bar(
                f"W6 p99 at 10,000 events/s, {system.removeprefix('Tidemill, ')}",
                f"<= {limit:.0f} ms",
                measured,
                None if p99 is None else p99 <= limit,
            )
        )
    return judged


def _scale_out_bar(figures: Figures) -> Bar:
    def cpu(instances: str) -> Callable[[Mapping[str, Any]], float | None]:
        return lambda run: run[instances]["cpu_s_per_million"]

    one, two = (figures.median("Tidemill, features stage", "W4", cpu(instances), "scale-out") for instances in ("1", "2"))
    measured = "not measured" if one is None or two is None else f"{two:.2f} / {one:.2f} CPU s per million = {two / one:.2f}x"
    met = None if one is None or two is None else two <= 1.1 * one
    return Bar("W4 on 4 partitions: two instances against one", "<= 1.1x the CPU time", measured, met)


def _model_bar(figures: Figures) -> Bar:
    more = figures.median("Tidemill, scoring", "W5", itemgetter("each_more_us"), "models")
    measured = "not measured" if more is None else f"{more:.2f} µs (nothing for features: one computation, one topic)"
    return Bar("cost of model 2 to 100 on shared features, per event and model", "<= 4 µs", measured, None if more is None else more <= 4)


def _recovery_bars(figures: Figures) -> list[Bar]:
    own = figures.median("Tidemill, features stage", "W4", itemgetter("recovery_s"), "recovery")
    peer = figures.median("Kafka Streams", "W4", itemgetter("recovery_s"), "recovery")
    entities = figures.median("Tidemill, features stage", "W4", itemgetter("entities"), "recovery") or 0
    memory = figures.median("Tidemill, features stage", "W4", itemgetter("peak_memory_mb"), "recovery")
    beside = "" if peer is None else f" (Kafka Streams {peer:.1f} s)"
    recovery = "not measured" if own is None else f"{own:.1f} s{beside}"
    used = "not measured" if memory is None else f"{memory:,.0f} MB"
    return [
        Bar(f"recovery after SIGKILL with {entities:,.0f} entities, features stage", "<= 10 s", recovery, None if own is None else own <= 10),
        Bar(f"memory of the features stage with {entities:,.0f} entities (W4)", "<= 2,048 MB", used, None if memory is None else memory <= 2048),
    ]


def _oracle_bar(cells: Cells) -> Bar:
    verdicts = {cell["system"]: run["oracle"] for cell in cells for run in cell["runs"] if "oracle" in run}
    wrong = [name for name, verdict in verdicts.items() if not agrees(verdict)]
    own = [verdict for name, verdict in verdicts.items() if name.startswith("Tidemill")]
    measured = f"{len(verdicts) - len(wrong)} of {len(verdicts)} systems agree" + (f"; not: {', '.join(wrong)}" if wrong else "")
    return Bar("W4 vectors against the oracle", "0 differing integers, <= 1e-9 elsewhere", measured, all(map(agrees, own)) if own else None)


def agrees(verdict: Mapping[str, Any]) -> bool:
    """Say whether an oracle's verdict is clean."""
    return not (verdict["missing"] or verdict["doubled"] or verdict["differing_integers"]) and verdict["largest_relative_difference"] <= 1e-9


def _at_least(what: str, rate: float | None, wanted: float, unit: str = "events per CPU second") -> Bar:
    measured = "not measured" if rate is None else f"{rate:,.0f}"
    return Bar(what, f">= {wanted:,.0f} {unit}", measured, None if rate is None else rate >= wanted)


def _ratio(what: str, own: float | None, other: float | None, factor: float) -> Bar:
    if own is None or other is None:
        return Bar(what, f">= {factor:.2g}x", "not measured", None)
    return Bar(what, f">= {factor:.2g}x", f"{own:,.0f} / {other:,.0f} = {own / other:.2f}x", own >= factor * other)
