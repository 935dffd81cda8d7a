"""Trials of a challenger: in any batches exactly what a recomputation with pandas gives, for every kind, with corrections, failures and slices."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.services.drift.domain.fold import DriftFold
from tidemill.services.drift.domain.loss_verdict import LossSettings
from tidemill.services.drift.domain.rows import MergedCoordinates, outcome_rows
from tidemill.services.drift.domain.trial import ContestBlock
from tidemill.services.drift.domain.trials import LEAST_SLICE_LABELS
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

HOUR = 3_600_000
BLOCK, HORIZON = 6 * HOUR, 10 * HOUR
START = 19_000 * 24 * HOUR
CLASSES = ("low", "middle", "high")
KINDS: dict[str, Kind] = {"binary": Binary(), "multiclass": Multiclass(CLASSES), "regression": Regression()}
ARROW = ColumnDecoder(MemorySchemaRegistry(), message_schema("outcome")).arrow
REQUESTS = 400


def said(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """What a model says of a request; nothing in one case of fifteen."""
    if rng.random() < 1 / 15:
        return {"score": None, "scores": None, "predicted": None}
    if kind == "multiclass":
        table = rng.dirichlet(np.ones(3))
        return {"score": float(table.max()), "scores": list(zip(CLASSES, table.tolist(), strict=True)), "predicted": int(table.argmax())}
    score = float(rng.random() if kind == "binary" else rng.normal())
    return {"score": score, "scores": None, "predicted": int(score >= 0.4) if kind == "binary" else 0}


def outcomes(kind: str, seed: int, weighted: bool = False) -> list[dict[str, Any]]:
    """Outcomes in journal order: none tried, then in shadow, then a canary; labels late, missing, corrected, too late, hidden; two slices."""
    rng = np.random.default_rng(seed)
    drawn = []
    times = np.sort(rng.integers(START, START + 60 * HOUR, REQUESTS)).tolist()
    for i, time in enumerate(times):
        stage = 0 if i < 40 else 1 if i < 220 else 2
        champion, challenger = {"version": "v1", "sequence": 3, **said(kind, rng)}, {"version": "v2", "sequence": 3 + stage, **said(kind, rng)}
        draw = float(rng.random())
        by_canary = stage == 2 and draw < 0.3 and challenger["score"] is not None
        served, other = (challenger, champion) if by_canary else (champion, challenger)
        variant = "canary" if by_canary else "champion" if served["score"] is not None else "default"
        # Every fifth label comes after its block was closed.
        delays = [int(rng.integers(0, 40 * HOUR if i % 5 == 0 else 9 * HOUR))]
        delays += [delays[0] + int(rng.integers(0, 8 * HOUR))] if i % 7 == 0 else []
        default = {"score": 0.3, "scores": None, "predicted": 1}
        for revision, delay in enumerate(delays):
            label = {"binary": float(rng.integers(2)), "multiclass": float(rng.integers(3)), "regression": float(rng.normal())}[kind]
            row = {
                "request_id": f"r{i}", "model": "m", "journal_partition": 0, "journal_time": time + delay, "request_journal_offset": i,
                "request_journal_time": time, "event_time": time, "model_version": served["version"] if variant != "default" else "default",
                "deployment_sequence": served["sequence"], "variant": variant, "status": "corrected" if revision else "labelled",
                "label": None if i % 13 == 0 else label, "delay_ms": delay, "revision": revision,
                "_stands_for": 1, **(default if variant == "default" else {name: served[name] for name in ("score", "scores", "predicted")}),
            }  # fmt: skip
            if stage:
                row |= {f"other_{name}": other[name] for name in ("version", "sequence", "score", "scores", "predicted")}
                row |= {"slices": [("country", f"c\x1f{i % 2}"), ("age", "" if i % 3 else "old")], "share": 0.3 if stage == 2 else 0.0}
                row |= {"stage": "ab" if stage == 2 else "shadow", "draw": draw if stage == 2 else None}
                row["_pair"] = (champion, challenger, by_canary)
            if i % 2 and weighted:
                row |= {"control": i % 4 == 1, "propensity": 0.25, "_stands_for": 4 if i % 4 == 1 else 0}
            drawn.append(row)
    drawn.sort(key=lambda row: (row["journal_time"], row["request_journal_offset"], row["revision"]))
    return [{**row, "journal_offset": place} for place, row in enumerate(drawn)]


def expected_of(kind: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compute the trials with pandas."""
    table = pd.DataFrame([row for row in rows if "_pair" in row])
    table["block"] = table["request_journal_time"] // BLOCK * BLOCK
    table["closing"] = table["block"] + BLOCK + HORIZON
    table = table[table["journal_time"] < table["closing"]].drop_duplicates("request_journal_offset", keep="last")
    table["sequence"] = [pair[1]["sequence"] for pair in table["_pair"]]
    trials = []
    for key, group in table.groupby(["block", "sequence"]):
        block, sequence = np.array(key).tolist()
        parts = {"": group}
        for name, values in (("country", ["c\x1f0", "c\x1f1"]), ("age", ["", "old"])):
            for value in values:
                parts[f"{name}={value}"] = group[[dict(slices)[name] == value for slices in group["slices"]]]
        for part in sorted(parts):
            record = figures(kind, parts[part])
            if sequence == 5 and not part:
                record |= arms(kind, parts[part])
            if part == "" or record["labels"] >= LEAST_SLICE_LABELS:
                when = block + BLOCK + HORIZON
                trials.append({"slice": part, "challenger_sequence": sequence, "block_start": block, "journal_time": when, **record})
    return sorted(trials, key=lambda one: (one["block_start"], one["challenger_sequence"], one["slice"]))


def loss(kind: str, label: float, one: dict[str, Any]) -> float:
    if kind == "regression":
        return float((one["score"] - label) ** 2)
    chance = dict(one["scores"])[CLASSES[int(label)]] if kind == "multiclass" else one["score"] if label else 1 - one["score"]
    return float(-np.log(np.clip(chance, 1e-15, 1 - 1e-15)))


def figures(kind: str, group: pd.DataFrame) -> dict[str, Any]:
    """A label that was seen in one of four cases stands for four requests: its row is there four times."""
    pairs, stands_for = list(group["_pair"]), group["_stands_for"].tolist()
    labels = [label if times else float("nan") for label, times in zip(group["label"].tolist(), stands_for, strict=True)]
    scored = [pair[0]["score"] is not None and pair[1]["score"] is not None for pair in pairs]
    used = [place for place, label in enumerate(labels) if scored[place] and not np.isnan(label)]
    both, times = [(pairs[place], labels[place]) for place in used], [stands_for[place] for place in used]
    record: dict[str, Any] = {
        "requests": len(group),
        "labels": len(both),
        "positives": sum(label > 0 for _, label in both) if kind != "regression" else 0,
        "champion_failures": sum(pair[0]["score"] is None for pair in pairs),
        "challenger_failures": sum(pair[1]["score"] is None for pair in pairs),
        "canary_answers": sum(pair[2] for pair in pairs),
    }

    def mean(values: Sequence[float]) -> float:
        return float(pd.Series(values, dtype=float).repeat(times).mean())

    losses = {}
    for place, whose in enumerate(("champion", "challenger")):
        yes = [label for pair, label in both if pair[place]["predicted"] > 0] if kind == "binary" else []
        record |= {f"{whose}_yes": len(yes), f"{whose}_hits": int(sum(yes))}
        losses[whose] = [loss(kind, label, pair[place]) for pair, label in both]
        right = [float(pair[place]["predicted"] == label) if kind == "multiclass" else label for pair, label in both]
        record |= {f"{whose}_loss": mean(losses[whose]), f"{whose}_score": mean([pair[place]["score"] for pair, _ in both])}
        record[f"{whose}_truth"] = mean(right)
    difference = [two - one for one, two in zip(losses["champion"], losses["challenger"], strict=True)]
    centre, n = mean(difference), len(difference)
    variance = mean([(one - centre) ** 2 for one in difference]) * n / (n - 1) if n > 1 else float("nan")
    return record | {"difference_mean": centre, "difference_variance": variance}


def arms(kind: str, group: pd.DataFrame) -> dict[str, Any]:
    """Both arms by the draws, whoever answered: a label that stands for several requests is there as often."""
    own = group[group["label"].notna() & (group["_stands_for"] > 0)]
    own = own[[pair[0]["score"] is not None for pair in own["_pair"]]]
    label = own["label"].astype(float) if kind != "multiclass" else (own["label"] > 0).astype(float)
    said = [pair[0]["score"] if kind != "multiclass" else 1 - dict(pair[0]["scores"])[CLASSES[0]] for pair in own["_pair"]]
    draw = own["draw"].astype(float)
    place = np.where(draw < 0.3, draw / 0.3 * 50, 50 + (draw - 0.3) / 0.7 * 50).astype(int)
    table = pd.DataFrame({"challenger": draw < 0.3, "bucket": place, "label": label, "excess": label - said}, index=own.index)
    table = table.loc[np.repeat(table.index, own["_stands_for"])]
    means = table.groupby("challenger")["label"].mean()
    excess = table.groupby("challenger")["excess"].mean()
    counted = (draw < 0.3).sum()
    return {
        "challenger_arm_labels": int(counted), "champion_arm_labels": int(len(own) - counted),
        "challenger_arm_label": means.get(True), "champion_arm_label": means.get(False),
        "arm_difference": float(excess[True] - excess[False]) if len(excess) == 2 else None,
        "arm_weights": table.groupby("bucket")["label"].size().reindex(range(100), fill_value=0).tolist(),
        "arm_sums": table.groupby("bucket")["excess"].sum().reindex(range(100), fill_value=0.0).tolist(),
    }  # fmt: skip


def folded(kind: str, rows: Sequence[dict[str, Any]], cuts: Sequence[int], restarts: Sequence[int] = ()) -> list[ContestBlock]:
    def fold() -> DriftFold:
        loss_settings = LossSettings(kind=KINDS[kind], max_delay_ms=HORIZON, silence_is_a_label=True)
        return DriftFold([WatchSettings("m", "orders", (), KINDS[kind], 10**9, loss_settings, block_ms=BLOCK)], {})

    now, trials = fold(), []
    batch = pa.RecordBatch.from_pylist([{name: row.get(name) for name in ARROW.names} for row in rows], ARROW)
    for place, (begin, end) in enumerate(pairwise([0, *sorted(cuts), len(rows)])):
        if begin == end:
            continue
        part = batch.slice(begin, end - begin)
        times = np.array([row["journal_time"] for row in rows[begin:end]])
        at = MergedCoordinates(np.arange(end - begin), times, np.zeros(end - begin, np.int64), np.arange(begin, end))
        trials += now.absorb(at, None, None, outcome_rows(at, part))
        if place in restarts:
            state, now = now.snapshot(), fold()
            now.load(state)
            trials += now.advance(int(times[-1]))
    trials += now.advance(START + 200 * HOUR)
    return [one for one in trials if isinstance(one, ContestBlock)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(8), deadline=None)
@given(
    cuts=st.lists(st.integers(0, REQUESTS), max_size=12),
    restarts=st.lists(st.integers(0, 12), max_size=3),
    seed=st.integers(0, 1),
    weighted=st.booleans(),
)
def test_trials_are_those_of_a_recomputation_with_pandas(kind: str, cuts: list[int], restarts: list[int], seed: int, weighted: bool) -> None:
    rows = outcomes(kind, seed, weighted)
    trials = folded(kind, rows, cuts, restarts)
    assert [one.record() for one in trials] == [one.record() for one in folded(kind, rows, ())], "bit for bit"
    expected = expected_of(kind, rows)
    records = sorted((one.record() for one in trials), key=lambda one: (one["block_start"], one["challenger_sequence"], one["slice"]))
    assert [(one["block_start"], one["challenger_sequence"], one["slice"]) for one in records] == [
        (one["block_start"], one["challenger_sequence"], one["slice"]) for one in expected
    ]
    for record, other in zip(records, expected, strict=True):
        for name, value in other.items():
            if isinstance(value, list):
                assert record[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
            elif isinstance(value, float):
                assert (record[name] is None and value != value) or record[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name
            else:
                assert record[name] == value, name
        assert (record["champion_version"], record["challenger_version"]) == ("v1", "v2")
        assert (record["stage"], record["share"]) == (("ab", 0.3) if record["challenger_sequence"] == 5 else ("shadow", 0.0))
    assert weighted or {one["slice"] for one in expected} > {""}


def test_outcomes_of_versions_that_wrote_no_stage_are_told_by_their_share() -> None:
    rows = [row | ({"stage": None, "draw": None} if "_pair" in row else {}) for row in outcomes("binary", 1)]
    trials = [one.record() for one in folded("binary", rows, ())]
    assert {(one["stage"], one["share"]) for one in trials} == {("shadow", 0.0), ("canary", 0.3)}
    whole = [one for one in trials if one["stage"] == "canary" and not one["slice"]]
    assert whole and all(one["arm_difference"] is None and sum(one["arm_weights"]) == 0 for one in whole), "nobody knows their arms"


def test_a_trial_keeps_nothing_of_requests_without_a_challenger_and_lets_go_of_what_is_closed() -> None:
    rows = outcomes("binary", 1)
    verdict = LossSettings(max_delay_ms=HORIZON, silence_is_a_label=True)
    fold = DriftFold([WatchSettings("m", "orders", (), Binary(), 10**9, verdict, block_ms=BLOCK)], {})
    batch = pa.RecordBatch.from_pylist([{name: row.get(name) for name in ARROW.names} for row in rows], ARROW)
    places, times = np.arange(len(rows)), np.array([row["journal_time"] for row in rows])
    at = MergedCoordinates(places, times, np.zeros(len(rows), np.int64), places)
    fold.absorb(at, None, None, outcome_rows(at, batch))
    fold.advance(START + 200 * HOUR)
    assert fold.snapshot()["trials/m"]["blocks"] == []
