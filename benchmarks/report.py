"""`benchmarks/README.md` from `results.json`: every figure of the page comes from one run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bars import Figures, agrees, bars

_INTRODUCTION = """\
# Benchmarks

Made by `make bench` (results: [`results.json`](results.json)); `make bench-quick` measures Tidemill alone, once, in some minutes. Do not edit.

{machine}

Everything runs on the embedded Kafka of `deploy/embedded`. The system under test has core {system_core} for itself; the broker and the driver
share core {driver_core} (W6 uses both for everything). It is watched from outside: the growth of the output topic, CPU time from the operating
system. Figures are of the second half of the events of a run, when JVMs have warmed up; a cell is the median of its runs, with the spread in
brackets where there is more than one. Runs of different systems are interleaved. Peers are written as their own documentation advises, each in an
environment of its own ([`peers/`](peers)); "our interval" rows commit as often as Tidemill does.

The input: payments in Avro (Confluent framing), {accounts} accounts and {merchants} merchants (Zipf 1.1), 10 ms apart, 0.5 % out of order
by up to 60 s. Windows end at the stream time of the partition (newest event time so far); a payment stands in them at its own event time and
sees itself.

| | workload |
|---|---|
| W0 | bytes through |
| W1 | decode, filter, add a column, encode |
| W2 | running count and mean per account, recoverable state |
| W3 | tumbling windows of 5 minutes, one result per payment |
| W4 | the fraud vector: count, sum, mean, max over 5 min, 1 h, 24 h; distinct merchants in 24 h; seconds since the previous payment |
| W5 | W4 and a LightGBM of 100 trees on it |
| W6 | the whole system, raw topic to predictions topic: all services, broker included |
"""
_STAGES_NOTE = """
Tidemill's stage alone is ingestion in W1, features from the journal in W2 to W4, scoring from the vectors in W5; "raw topic to result" adds up
the CPU time of all stages up to there.
"""
_WORKLOADS = ("W0", "W1", "W2", "W3", "W4", "W5")
Results = Mapping[str, Any]


def write_readme(results: Results, path: Path) -> None:
    """Write the page."""
    path.write_text(page(results), encoding="utf-8")


def page(results: Results) -> str:
    """Return the page."""
    machine = results["machine"]
    described = (
        f"Run of {results['started']} ({results['minutes']} minutes), commit {results['commit']}, on {machine['processor']},"
        f" {machine['cores']} cores, Python {machine['python']}, Linux {machine['kernel']}."
    )
    text = _INTRODUCTION.format(
        machine=described, system_core=machine["system_core"], driver_core=machine["driver_core"], accounts="10,000", merchants="1,000"
    )
    cells = results["cells"]
    # What went wrong in a run and does not show in its figures; written into results.json by hand.
    remarks = [f"**Remark.** {remark}\n" for remark in results.get("remarks", [])]
    tables = [_bars(cells), _rates(cells), _vector_table(cells), _latency(cells), _whole_system(cells), _recovery(cells), _oracle(cells)]
    return "\n".join([text, *remarks, *tables])


def _bars(cells: Sequence[Results]) -> str:
    rows = [[bar.what, bar.wanted, bar.measured, {True: "met", False: "**not met**", None: "not measured"}[bar.met]] for bar in bars(cells)]
    return "## Bars\n\n" + _table(["bar", "wanted", "measured", ""], rows)


def _tidemill_rows(workload: str) -> dict[str, Callable[[Results], Results | None]]:
    """Return Tidemill's rows: where in a run of its stages the figures of a workload stand."""
    stage = {"W1": None, "W2": "features", "W3": "features", "W4": "features", "W5": "scoring"}
    rows: dict[str, Callable[[Results], Results | None]] = {}
    if workload in stage:
        name = stage[workload]
        rows["Tidemill, the stage alone"] = (lambda run: run) if name is None else lambda run: run.get("stages", {}).get(name)
    if workload in ("W2", "W3"):
        rows["Tidemill, raw topic to result"] = lambda run: run.get("total")
    if workload == "W4":
        rows["Tidemill, raw topic to result"] = lambda run: run.get("w4_total")
    if workload == "W5":
        rows["Tidemill, raw topic to result"] = lambda run: run
    return rows


def _throughput(cells: Sequence[Results], workload: str) -> dict[str, list[Results] | str]:
    """Return the runs of every row of a workload, or why there are none."""
    measurements: dict[str, list[Results] | str] = {}
    for cell in cells:
        if cell["measure"] != "throughput":
            continue
        if cell["system"] == "Tidemill, stages":
            if cell["workload"] == ("W5" if workload == "W4" else workload):
                for name, pick in _tidemill_rows(workload).items():
                    measurements[name] = [each for run in cell["runs"] if (each := pick(run)) is not None] or cell["failed"] or "no run"
        elif cell["workload"] == workload:
            measurements[cell["system"]] = cell["runs"] or cell["failed"] or "no run"
    return measurements


def _facts(cells: Sequence[Results]) -> dict[str, str]:
    facts = {}
    for cell in cells:
        if cell["measure"] == "throughput":
            facts[cell["system"]] = f"{cell['guarantee']}, {cell['commit_interval']}"
    own = facts.pop("Tidemill, stages", "")
    return {"Tidemill, the stage alone": own, "Tidemill, raw topic to result": own, **facts}


def _rates(cells: Sequence[Results]) -> str:
    by_workload = {workload: _throughput(cells, workload) for workload in _WORKLOADS}
    rows = []
    for system, facts in _facts(cells).items():
        row = [system, facts]
        for measurements in by_workload.values():
            runs = measurements.get(system)
            row.append("" if runs is None else runs if isinstance(runs, str) else _spread(runs, "events_per_cpu_s", "{:,.0f}"))
        if any(row[2:]):
            rows.append(row)
    return "## Events per CPU second of the system\n\n" + _table(["system", "guarantee, time between commits", *_WORKLOADS], rows) + _STAGES_NOTE


def _vector_table(cells: Sequence[Results]) -> str:
    measurements = _throughput(cells, "W4")
    own = measurements.get("Tidemill, raw topic to result")
    base = median(run["events_per_cpu_s"] for run in own) if isinstance(own, list) and own else None
    rows = []
    for system, runs in measurements.items():
        if isinstance(runs, str):
            rows.append([system, runs, "", "", "", "", "", ""])
            continue
        ratio = "" if base is None else f"{base / median(run['events_per_cpu_s'] for run in runs):.2f}x"
        figures = [("events", "{:,.0f}"), ("cpu_s_per_million", "{:.2f}"), ("broker_cpu_s_per_million", "{:.2f}"), ("events_per_s", "{:,.0f}")]
        rows.append(
            [system, str(len(runs)), *(_spread(runs, name, form) for name, form in figures), _spread(runs, "peak_memory_mb", "{:,.0f}"), ratio]
        )
    head = [
        "system",
        "runs",
        "events",
        "CPU s per million",
        "broker CPU s per million",
        "events/s (wall)",
        "peak memory, MB",
        "Tidemill (raw topic to vectors) is faster by",
    ]
    return "\n## W4 in detail\n\n" + _table(head, rows)


def _latency(cells: Sequence[Results]) -> str:
    rows = []
    figures = Figures(cells)
    for cell in cells:
        if cell["measure"] != "latency":
            continue
        rate, runs = cell["events_per_s"], cell["runs"]
        head = [cell["system"], cell["workload"], f"{cell['guarantee']}, {cell['commit_interval']}", f"{rate:,}"]
        if not runs:
            rows.append([*head, "0", cell["failed"] or "no run", "", "", "", ""])
            continue
        through = figures.median("pass-through, transactional", "W0", lambda run: run.get("p99_ms"), "latency", events_per_s=rate)
        p99 = median(run["p99_ms"] for run in runs)
        ratio = "" if through is None else f"{p99 / through:.2f}x"
        spreads = [_spread(runs, name, "{:,.1f}") for name in ("p50_ms", "p99_ms", "max_ms")]
        rows.append([*head, str(len(runs)), *spreads, ratio, f"{sum(run['missing'] for run in runs):,}"])
    note = "Open loop, from the instant an event was due to the instant a read_committed consumer had its result.\n\n"
    columns = [
        "system",
        "workload",
        "guarantee, time between commits",
        "events/s",
        "runs",
        "p50, ms",
        "p99, ms",
        "max, ms",
        "p99 against pass-through",
        "no result",
    ]
    return "\n## Latency\n\n" + note + _table(columns, rows)


def _whole_system(cells: Sequence[Results]) -> str:
    lines = ["\n## W6: the whole system on two cores\n"]
    for cell in cells:
        if cell["measure"] != "system":
            continue
        if not cell["runs"]:
            lines.append(f"{cell['system']}: {cell['failed'] or 'no run'}\n")
            continue
        runs = cell["runs"]
        lines.append(
            f"{cell['system']}: a backlog of {cell['events']:,} payments at {_spread(runs, 'events_per_s', '{:,.0f}')} events/s ({len(runs)} runs).\n"
        )
        names = runs[0]["cpu_s_per_million"]
        rows = [[name, f"{median(run['cpu_s_per_million'][name] for run in runs):.2f}", str(runs[0]["memory_mb"].get(name, ""))] for name in names]
        lines.append(_table(["process", "CPU s per million", "peak memory, MB"], rows))
    return "\n".join(lines)


def _recovery(cells: Sequence[Results]) -> str:
    rows = []
    for cell in cells:
        if cell["measure"] == "recovery":
            facts = [cell["system"], f"{cell['guarantee']}, {cell['commit_interval']}", f"{cell['events']:,}"]
            run = cell["runs"][0] if cell["runs"] else None
            rows.append(
                [*facts, cell["failed"] or "no run", ""] if run is None else [*facts, f"{run['recovery_s']:.1f}", f"{run['peak_memory_mb']:,.0f}"]
            )
    note = "W4 with every account seen once; SIGKILL; from the kill to the first committed result of the process that is started again at once.\n\n"
    return "\n## Recovery\n\n" + note + _table(["system", "guarantee, time between commits", "entities", "seconds", "peak memory before, MB"], rows)


def _oracle(cells: Sequence[Results]) -> str:
    rows = []
    for cell in cells:
        for run in cell["runs"]:
            if "oracle" in run:
                verdict = run["oracle"]
                rows.append([
                    cell["system"], f"{verdict['vectors']:,}", str(verdict["missing"]), str(verdict["doubled"]), str(verdict["differing_integers"]),
                    f"{verdict['largest_relative_difference']:.1e}", "agrees" if agrees(verdict) else f"**differs**: {verdict['first_difference']}",
                ])  # fmt: skip
    note = "Every W4 vector of a run of each system against an independent computation over the raw rows ([`oracle.py`](oracle.py)).\n\n"
    return (
        "\n## Are the answers right?\n\n"
        + note
        + _table(["system", "vectors", "missing", "twice", "differing integers", "largest relative difference", ""], rows)
    )


def _spread(runs: Sequence[Results], name: str, form: str) -> str:
    values = [run[name] for run in runs]
    middle = form.format(median(values))
    low, high = form.format(min(values)), form.format(max(values))
    return middle if low == high else f"{middle} [{low}, {high}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    clean = [[cell.replace("\n", " ").replace("|", "/")[:300] for cell in row] for row in rows]
    return "\n".join(["| " + " | ".join(line) + " |" for line in [list(head), ["---"] * len(head), *clean]]) + "\n"
