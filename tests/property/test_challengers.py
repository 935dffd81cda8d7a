"""Challengers: what is served and what both said, against a plain loop over requests, for every kind, in any batching."""

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.error_models import stump, stump_errors
from tests.long_forms import examples
from tests.unit.shared.models.test_assignment import hash_of
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.serving import Challenge, Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.log.packed import Packed
from tidemill.shared.models.blocks import Blocks
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.deployments import Stage
from tidemill.shared.models.error_forest import ErrorForest
from tidemill.shared.models.forest import Forest
from tidemill.shared.models.signature import Column

ROWS = 60
ABSENT = "latency"
"""Why a challenger that is absent has no score."""
CLASSES = ("low", "middle", "high")
SALTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("risk_000", "risk_001", "risk_002")}
STAGES: dict[str, Stage] = {"risk_000": "canary", "risk_001": "ab", "risk_002": "canary"}
"""Of the challengers that answer."""
KEYS = [None if i % 11 == 0 else f"card-{i % 17}".encode() for i in range(ROWS)]


_KINDS: dict[str, Kind] = {"binary": Binary(), "regression": Regression(), "multiclass": Multiclass(CLASSES)}


class Plain:
    """A model of a few lines: from one number to a score, and none for some of them."""

    def __init__(self, slope: float, kind: str, fails_above: float = float("inf"), error_bound: float | None = None) -> None:
        self.kind: Kind = _KINDS[kind]
        self.columns: tuple[Column, ...] = (Column(name="amount", type="double"),)
        self.forest: Forest | None = None
        self.calibration: Calibration | None = None
        self.error_bound = error_bound
        self.errors = None if error_bound is None else ErrorForest(stump(error_bound, 1, ()), 1)
        self._slope, self._kind, self._fails_above = slope, kind, fails_above

    def score_of(self, amount: float | None) -> Any:
        if amount is None or np.float32(amount) > self._fails_above:
            return None
        value = self._slope * float(np.float32(amount))
        if self._kind == "regression":
            return value
        share = 1 / (1 + np.exp(-value))
        return share if self._kind == "binary" else [share * 0.5, share * 0.5, 1 - share]

    def score_blocks(self, blocks: Blocks, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        amounts = blocks[:, positions[0], :].ravel()
        width = (3,) if self._kind == "multiclass" else ()
        nothing = np.full(width, np.nan)
        scores = [self.score_of(None if np.isnan(one) else float(one)) for one in amounts]
        return np.array([nothing if one is None else one for one in scores])


APPLICATION = """
app: kinds
owner: tests@example.org
partition_by: card
streams:
  payments: {topic: kinds-payments, schema: payment.avsc, event_id: payment, event_time: at}
  verdicts: {topic: kinds-verdicts, schema: verdict.avsc, event_id: verdict, event_time: at}
models:
"""
MODEL = """
  risk_00%d:
    %s
    ask: payments
    features: [amount, currency]
    label: {stream: verdicts, join: payment, value: %s, max_delay: 3d}
"""
PARTS = (
    ("gate: {fairness: {columns: [currency]}}\n    fallback: {default: 0.5}", "amount > 1"),
    ("kind: regression\n    slices: [currency]\n    fallback: {default: 2.5}", "amount"),
    ("kind: multiclass\n    classes: [low, middle, high]\n    fallback: {default: middle}", "name"),
    ("fallback: {default: 0.5}", "amount > 1"),
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Return an application with models of all kinds."""
    folder = tmp_path_factory.mktemp("kinds")
    time = {"type": "long", "logicalType": "timestamp-millis"}
    for name, more in (("payment", "currency"), ("verdict", "name")):
        columns = {"card": "string", "payment": "string", "verdict": "string", "at": time, "amount": ["null", "double"], more: ["null", "string"]}
        fields = [{"name": column, "type": kind} for column, kind in columns.items()]
        (folder / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name.capitalize(), "fields": fields}))
    (folder / "app.yaml").write_text(APPLICATION + "".join(MODEL % (number, *part) for number, part in enumerate(PARTS)))
    return load_plan(folder)


@pytest.fixture(scope="module")
def vectors(plan: Plan) -> pa.RecordBatch:
    rng = np.random.default_rng(8)
    values = {
        "_request_id": [f"r{i}" for i in range(ROWS)], "_ask": ["payments"] * ROWS, "_event_time": np.arange(ROWS),
        "_journal_partition": np.zeros(ROWS), "_journal_offset": np.arange(ROWS) * 3, "_journal_time": np.arange(ROWS) + 5,
        "_late": np.zeros(ROWS, bool),
        "currency": rng.choice(["EUR", "USD"], ROWS),
    }  # fmt: skip
    columns = []
    for field in plan.vector_arrow:
        column = pa.array(values[field.name] if field.name in values else rng.normal(0, 2, ROWS))
        missing = pa.array(rng.random(ROWS) < 0.1)
        column = pa.compute.if_else(missing, pa.scalar(None, column.type), column) if field.nullable else column
        columns.append((column.cast(pa.int64()) if pa.types.is_timestamp(field.type) else column).cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=plan.vector_arrow)


def serving(shares: Sequence[float], challenged: Collection[int] = (0, 1, 2), absent: int | None = None) -> dict[str, Serving]:
    """Three champions of three kinds, those in `challenged` each with a challenger, one of which may be absent; a fourth champion without one."""
    by_model = {}
    for number, (name, kind) in enumerate((("risk_000", "binary"), ("risk_001", "regression"), ("risk_002", "multiclass"))):
        interval, bound = ((-1.5, 2.0), 0.3) if kind == "regression" else (None, None)
        own = Serving(
            f"v2-{number}",
            9 + number,
            0.4,
            Plain(-0.7, kind, fails_above=1.5, error_bound=bound and bound / 2),
            None,
            (-0.5, 0.25) if interval else None,
        )
        own = own.without_model(ABSENT) if number == absent else own
        share = shares[number]
        by_model[name] = Serving(
            f"v1-{number}",
            4 + number,
            0.6,
            Plain(0.9, kind, fails_above=2.5, error_bound=bound),
            None,
            interval,
            # The newest revision is of the champion's interval: the challenger has the one that it was made with.
            revision=5 if interval else -1,
            challenge=Challenge(own, SALTS[name], share, STAGES[name] if share else "shadow") if number in challenged else None,
        )
    return {**by_model, "risk_003": Serving("v1", 2, 0.5, Plain(1.0, "binary"), None)}


def expected_of(plan: Plan, vectors: pa.RecordBatch, served: dict[str, Serving]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what is served and what both say, by a loop."""
    answers, shadows = [], []
    for row, key in zip(vectors.to_pylist(), KEYS, strict=True):
        for name, model in plan.models.items():
            now, kind = served[name], model.settings.kind
            assert now.scorer is not None
            said = {"champion": now.scorer.score_of(row["amount"])}  # type: ignore[attr-defined]  # all here are stumps
            challenge, variant, draw = now.challenge, "champion", None
            if challenge is not None:
                stump: Any = challenge.serving.scorer
                said["challenger"] = None if stump is None else stump.score_of(row["amount"])
                draw = (hash_of(key or b"", challenge.artifact_sha256) >> 11) / 2**53 if challenge.share else None
                variant = "canary" if draw is not None and draw < challenge.share and said["challenger"] is not None else "champion"
            who = now if variant == "champion" or challenge is None else challenge.serving
            own = said["champion" if variant == "champion" else "challenger"]
            if own is None:
                variant = "default"
            score, predicted, table = answered(kind, own, who.threshold, model.settings.fallback.default)
            has_interval = kind == "regression" and own is not None
            assert not has_interval or who.interval is not None
            bound = who.scorer.error_bound  # type: ignore[union-attr]  # a stump, or None, which the oracle never gets
            error, squared = (None, None) if own is None or bound is None else stump_errors(bound, np.array([score]))[0].tolist()
            answers.append({
                "request_id": row["_request_id"], "model": name, "variant": variant, "score": score, "predicted": predicted, "scores": table,
                "model_version": "default" if own is None else who.version, "deployment_sequence": who.deployment_sequence,
                "reason": "model_failed" if own is None else None, "predicted_label": CLASSES[predicted] if table else None,
                "lower": score + who.interval[0] if has_interval and who.interval else None,
                "upper": score + who.interval[1] if has_interval and who.interval else None, "revision": 5 if has_interval and who is now else None,
                "control": None, "propensity": None, "expected_error": error, "expected_squared_error": squared,
            })  # fmt: skip
            if challenge is None:
                continue
            record: dict[str, Any] = {"request_id": row["_request_id"], "model": name, "variant": variant}
            for whose, one in (("champion", now), ("challenger", challenge.serving)):
                value = said[whose]
                given = answered(kind, value, one.threshold, None) if value is not None else (None, None, None)
                figures = {"version": one.version, "sequence": one.deployment_sequence}
                figures |= dict(zip(("score", "predicted", "scores"), given, strict=True))
                record |= {f"{whose}_{what}": figure for what, figure in figures.items()}
                record[f"{whose}_reason"] = None if value is not None else "model_failed" if one.scorer is not None else ABSENT
            record |= {"slices": [("currency", row["currency"] or "")] if name in ("risk_000", "risk_001") else None}
            shadows.append(record | {"share": challenge.share, "draw": draw, "stage": (STAGES[name] if challenge.share else "shadow")})
    return answers, shadows


def answered(kind: str, value: Any, threshold: float, default: Any) -> tuple[Any, int, list[tuple[str, float]] | None]:
    if kind == "multiclass":
        table = value if value is not None else [0.25, 0.5, 0.25]
        place = int(np.argmax(table))
        return table[place], place, list(zip(CLASSES, table, strict=True))
    score = value if value is not None else default
    return score, int(score >= threshold) if kind == "binary" else 0, None


def rows_of(batch: pa.RecordBatch | None, left_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    places = {"journal_partition", "journal_offset", "journal_time", "event_time", *left_out}
    rows = [] if batch is None else batch.to_pylist()
    return [{name: value for name, value in row.items() if name not in places} for row in rows]


@settings(max_examples=examples(30), deadline=None)
@given(
    cuts=st.lists(st.integers(0, ROWS), max_size=8),
    shares=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 1.0])] * 3),
    challenged=st.frozensets(st.integers(0, 2), min_size=1),
    absent=st.sampled_from([None, 0, 1, 2]),
    packed=st.booleans(),
    timed=st.booleans(),
)
@example([20], (0.5, 0.1, 1.0), frozenset({0, 1, 2}), None, True, False)
@example([20], (0.5, 1.0, 0.1), frozenset({1, 2}), 2, False, True)
def test_any_batching_gives_what_a_loop_over_requests_does(
    plan: Plan,
    vectors: pa.RecordBatch,
    cuts: list[int],
    shares: tuple[float, float, float],
    challenged: frozenset[int],
    absent: int | None,
    packed: bool,
    timed: bool,
) -> None:
    core, served = ScoringCore(plan, clock_ns=time.perf_counter_ns if timed else None), serving(shares, challenged, absent)
    answers, shadows = expected_of(plan, vectors, served)
    written: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []
    for begin, end in pairwise([0, *sorted(cuts), ROWS]):
        keys = [key or b"" for key in KEYS[begin:end]] if packed else KEYS[begin:end]
        part = core.process(vectors.slice(begin, end - begin), served, (Packed.of(keys) if packed else None) or keys)
        written[0].extend(rows_of(part.batch))
        written[1].extend(rows_of(part.shadow_scores))
        if part.shadow_scores is not None:
            own = vectors.slice(begin, end - begin).column("_request_id").take(pa.array(part.shadowed))
            assert own.to_pylist() == part.shadow_scores.column("request_id").to_pylist()
    assert written[0] == answers
    assert written[1] == shadows
    answering = any(shares[number] >= 0.5 for number in challenged - {absent})
    assert not answering or "canary" in {row["variant"] for row in written[0]}


def test_a_canary_draws_by_the_keys_of_its_own_streams_requests(plan: Plan, vectors: pa.RecordBatch) -> None:
    alone = replace(plan, models={"risk_000": plan.models["risk_000"]})
    both = replace(alone, models={**alone.models, "risk_003": replace(plan.models["risk_003"], ask="verdicts")})
    asks = pa.array(["verdicts" if i % 3 else "payments" for i in range(ROWS)], pa.string())
    mixed = vectors.set_column(vectors.schema.get_field_index("_ask"), vectors.schema.field("_ask"), asks)
    served, own = serving((0.5, 0.0, 0.0)), np.flatnonzero([i % 3 == 0 for i in range(ROWS)])
    answers = ScoringCore(both).process(mixed, served, KEYS)
    expected = ScoringCore(alone).process(vectors.take(pa.array(own)), served, [KEYS[i] for i in own.tolist()])
    assert expected.shadow_scores is not None and answers.shadow_scores is not None
    assert answers.shadow_scores.equals(expected.shadow_scores) and answers.shadowed.tolist() == own.tolist()
    rows = pa.array([one == "risk_000" for one in answers.batch.column("model").to_pylist()])
    assert answers.batch.filter(rows).equals(expected.batch) and answers.batch.num_rows == ROWS
    assert set(expected.batch.column("variant").to_pylist()) >= {"champion", "canary"}


def test_a_challenger_in_shadow_changes_no_answer_and_one_without_a_model_says_why(plan: Plan, vectors: pa.RecordBatch) -> None:
    core, served = ScoringCore(plan), serving((0.0, 0.0, 0.0))
    alone = {name: replace(now, challenge=None) for name, now in served.items()}
    expected = core.process(vectors, alone)
    assert expected.shadow_scores is None
    assert core.process(vectors, served).batch.equals(expected.batch)
    failed = {name: now.without_challenger("model_failed") for name, now in serving((1.0, 1.0, 1.0)).items()}
    answers = core.process(vectors, failed, KEYS)
    assert answers.batch.equals(expected.batch)
    records = rows_of(answers.shadow_scores)
    assert len(records) == 3 * ROWS
    assert {(row["challenger_score"], row["challenger_reason"]) for row in records} == {(None, "model_failed")}
