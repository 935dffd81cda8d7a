import time
from collections.abc import Callable
from typing import Any

from benchmarks.bars import bars
from benchmarks.cells import Cell, interleave
from benchmarks.report import page


def throughput(rate: float) -> dict[str, Any]:
    return {
        "events": 1000, "steady_events": 500, "cpu_s_per_million": 1e6 / rate, "broker_cpu_s_per_million": 1.0, "events_per_cpu_s": rate,
        "events_per_s": rate, "peak_memory_mb": 100.0, "first_output_s": 1.0,
    }  # fmt: skip


def cell(
    system: str, workload: str, runs: list[dict[str, Any]], measure: str = "throughput", failed: str | None = None, **facts: object
) -> dict[str, Any]:
    return {
        "system": system, "workload": workload, "measure": measure, "guarantee": "exactly once", "commit_interval": "10 ms", "failed": failed,
        "runs": runs, **facts,
    }  # fmt: skip


def fraud_run(ingestion: float, features: float) -> dict[str, Any]:
    total = 1 / (1 / ingestion + 1 / features)
    stages = {"ingestion": throughput(ingestion), "features": throughput(features), "scoring": throughput(500_000)}
    return {**throughput(1 / (1 / total + 1 / 500_000)), "stages": stages, "w4_total": throughput(total)}


def results(cells: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"processor": "a", "cores": 2, "system_core": 0, "driver_core": 1, "python": "3.11", "kernel": "6"}
    return {"started": "2026-01-01", "minutes": 1.0, "quick": False, "commit": "abc", "machine": machine, "events": 1000, "cells": cells}


def test_a_bar_is_judged_by_the_median_against_the_peer_of_the_same_run() -> None:
    judged = {
        bar.what: bar
        for bar in bars(
            [
                cell("Tidemill, stages", "W5", [fraud_run(400_000, 400_000), fraud_run(600_000, 600_000), fraud_run(440_000, 440_000)]),
                cell("Kafka Streams", "W4", [throughput(60_000), throughput(80_000), throughput(100_000)]),
                cell("Quix Streams", "W4", [throughput(30_000)]),
            ]
        )
    }
    assert judged["W4, raw topic to vectors with guards and dead letters (ingestion + features)"].met is True
    assert judged["W4, raw topic to vectors against Kafka Streams"].met is True
    assert "220,000 / 80,000 = 2.75x" in judged["W4, raw topic to vectors against Kafka Streams"].measured
    assert judged["W4, raw topic to vectors against Quix Streams"].met is False
    assert judged["W4, raw topic to vectors against Faust"].met is None


def test_latency_is_held_against_the_pass_through_at_the_same_rate() -> None:
    def timed(p50: float, p99: float) -> dict[str, Any]:
        return {"p50_ms": p50, "p99_ms": p99, "max_ms": p99, "missing": 0}

    cells = [
        cell("Tidemill, features stage", "W4", [timed(14, 40)], "latency", events_per_s=1_000),
        cell("pass-through, transactional", "W0", [timed(10, 20)], "latency", events_per_s=1_000),
        cell("pass-through, transactional", "W0", [timed(99, 99)], "latency", events_per_s=10_000),
    ]
    judged = {bar.what: bar.met for bar in bars(cells)}
    assert judged["W4 p50 at 1,000 events/s, features stage, against the transactional pass-through"] is True
    assert judged["W4 p99 at 1,000 events/s, features stage, against the transactional pass-through"] is False
    assert judged["W4 p99 at 10,000 events/s, features stage, against the transactional pass-through"] is None


def test_a_peer_that_could_not_run_stands_in_the_table_with_its_reason() -> None:
    text = page(
        results(
            [
                cell("Faust", "W4", [], failed="could not run: no wheel | for this Python", events=1),
                cell("Quix Streams", "W2", [throughput(5)], events=1),
            ]
        )
    )
    assert "| Faust | could not run: no wheel / for this Python |" in text
    assert "| Quix Streams | exactly once, 10 ms |" in text


def test_every_cell_runs_once_before_any_runs_twice_and_a_failure_ends_its_cell() -> None:
    ran: list[str] = []

    def fine(name: str) -> Callable[[int], dict[str, Any]]:
        def execute(number: int) -> dict[str, Any]:
            ran.append(f"{name}{number}")
            return {"events_per_s": 1.0}

        return execute

    def broken(number: int) -> dict[str, Any]:
        ran.append(f"broken{number}")
        raise RuntimeError("no")

    cells = [Cell("a", "W4", "throughput", fine("a"), 2), Cell("b", "W4", "throughput", broken, 2), Cell("c", "W4", "throughput", fine("c"), 1)]
    interleave(cells, 1_000, time.monotonic(), lambda text: None, lambda: None)
    assert ran == ["a0", "broken0", "c0", "a1"]
    assert cells[1].failed == "could not run: no"
    late = [Cell("d", "W4", "throughput", fine("d"), 1)]
    interleave(late, 1.0, time.monotonic(), lambda text: None, lambda: None)
    assert ran == ["a0", "broken0", "c0", "a1"]
    assert late[0].failed is not None
    assert "time" in late[0].failed
