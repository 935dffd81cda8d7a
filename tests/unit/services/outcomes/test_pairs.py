"""Pairs of champion and challenger in the join: found by their request through stretches and gaps, gone with it, carried for every kind."""

import math
import tracemalloc
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.services.outcomes.domain.join import JoinPolicy, Outcome, OutcomeJoin
from tidemill.services.outcomes.domain.known_classes import KnownClasses
from tidemill.services.outcomes.domain.pair_table import PairTable
from tidemill.services.outcomes.domain.request import At, Pair, Request, TimedLabel
from tidemill.services.outcomes.domain.served_pairs import ServedPairs
from tidemill.services.scoring.domain.challengers import SHADOW_SCORES
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

HOUR = 3_600_000
COUNT = 15_000


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["pair", "other", "none", "forget"]), max_size=120))
def test_the_table_is_a_dictionary_in_less_memory(steps: list[str]) -> None:
    table, expected, begin, end = PairTable(2), dict[int, Pair](), 0, 0
    for step in steps:
        if step == "forget":
            if begin < end:
                table.forget(begin)
                expected.pop(begin, None)
                begin += 1
            continue
        if step != "none":
            pair = Pair("v2" if step == "pair" else "v3", 4, end / 7, end % 3, (0.25, math.inf), f'{{"country": "c{end}"}}', 0.25, "ab", end / 130)
            table.add(end, 2 * end, 100 + end, pair)
            expected[end] = pair
        end += 1
    assert [table.find(row) for row in range(-1, end + 2)] == [expected.get(row) for row in range(-1, end + 2)]
    assert len(table) == len(expected)


def test_a_request_without_a_challenger_costs_nothing_and_one_with_a_pair_some_tens_of_bytes() -> None:
    def held(*, tried: bool) -> int:
        tracemalloc.start()
        join = OutcomeJoin([JoinPolicy("m", HOUR)])
        for i in range(COUNT):
            if tried:
                join.pair("m", i, Pair("v2", 4, 0.5, 1))
            join.request("m", Request(f"r{i:09d}", i, i, i, 0.5, 1, "v1", 3, "champion"), At(i, 0, i))
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    held(tried=True)  # what is imported on the way belongs to no pair
    alone = held(tried=False)
    assert 0 < (held(tried=True) - alone) / COUNT < 60


def test_a_pair_is_forgotten_with_its_request_and_only_the_next_request_gets_it() -> None:
    join = OutcomeJoin([JoinPolicy("m", HOUR)])
    join.pair("m", 0, Pair("v2", 4, 0.75, 1))
    join.request("m", Request("a", 0, 0, 0, 0.5, 0, "v1", 3, "champion"), At(0, 0, 0))
    join.request("m", Request("b", 1, 1, 1, 0.5, 0, "v1", 3, "champion"), At(1, 0, 1))
    join.pair("m", 2, Pair("v2", 4, 0.25, 0))
    saved = {key: blob for key, blob in join.snapshot().items() if blob is not None}
    again = OutcomeJoin([JoinPolicy("m", HOUR)])
    again.load(saved)
    for one in (join, again):
        one.request("m", Request("c", 2, 2, 2, 0.5, 0, "v1", 3, "champion"), At(2, 0, 2))
        pairs = {name: one.label("m", name, TimedLabel(1.0, 5), At(9, 0, 9))[0].request.pair for name in "abc"}
        assert pairs == {"a": Pair("v2", 4, 0.75, 1), "b": None, "c": Pair("v2", 4, 0.25, 0)}
        one.advance(At(3 * HOUR, 0, 10))
        assert not one.states["m"].requests._pairs, "all are forgotten"
    assert {key: blob for key, blob in join.snapshot().items() if key == "m/pair"} == {"m/pair": None}


def shadow(model: str, variant: str, champion: Any, challenger: Any) -> dict[str, Any]:
    """Return a shadow score; what each said is score, scores and class, or None."""
    row: dict[str, Any] = dict.fromkeys(SHADOW_SCORES.names)
    row |= {"request_id": "r", "model": model, "variant": variant, "journal_partition": 0, "journal_offset": 0, "journal_time": 0, "event_time": 0}
    row |= {"share": 0.5, "stage": "ab", "draw": 0.25}
    for whose, version, said in (("champion", "v1", champion), ("challenger", "v2", challenger)):
        row |= {f"{whose}_version": version, f"{whose}_sequence": int(version[1])}
        row |= dict(zip((f"{whose}_score", f"{whose}_scores", f"{whose}_predicted"), said or (None, None, None), strict=True))
    return row


def test_pairs_of_every_kind_reach_the_outcomes_columns() -> None:
    kinds: dict[str, Kind] = {"yes": Binary(), "which": Multiclass(("a", "b")), "much": Regression()}
    served = ServedPairs(KnownClasses(kinds))
    rows = [
        shadow("yes", "champion", (0.25, None, 0), (0.75, None, 1)) | {"slices": [("country", "de"), ("age", "")]},
        shadow("yes", "canary", (0.25, None, 0), (0.75, None, 1)),
        shadow("yes", "default", None, None),
        shadow("which", "champion", (0.9, [("a", 0.9), ("b", 0.1)], 0), (0.6, [("b", 0.6), ("a", 0.4)], 0)),
        shadow("which", "champion", (0.9, [("a", 0.9), ("b", 0.1)], 0), (1.0, [("gone", 1.0)], 0)),
        shadow("much", "canary", (12.5, None, 0), (11.0, None, 0)),
    ]
    pairs = served.pairs(pa.RecordBatch.from_pylist(rows, SHADOW_SCORES))
    outcomes = [
        Outcome(row["model"], At(0, 0, 0), Request("r", 0, 0, 0, 0.5, 0, "v", 0, row["variant"], (), pair), "labelled", None, None, 0)
        for row, pair in zip(rows, pairs, strict=True)
    ]
    served_columns = {name: column.to_pylist() for name, column in served.outcome_columns(outcomes).items()}
    assert served_columns["other_version"] == ["v2", "v1", "v2", "v2", "v2", "v1"]
    assert served_columns["other_sequence"] == [2, 1, 2, 2, 2, 1]
    assert served_columns["other_score"] == [0.75, 0.25, None, 0.6, 1.0, 12.5]
    assert served_columns["other_scores"] == [None, None, None, [("a", 0.4), ("b", 0.6)], None, None]
    assert served_columns["other_predicted"] == [1, 0, None, 1, -1, 0], "classes are those of today"
    assert served_columns["slices"] == [[("country", "de"), ("age", "")], None, None, None, None, None]
    assert (served_columns["share"], served_columns["stage"], served_columns["draw"]) == ([0.5] * 6, ["ab"] * 6, [0.25] * 6)
    nobody = [outcome._replace(request=outcome.request._replace(pair=None)) for outcome in outcomes]
    columns = served.outcome_columns(nobody)
    assert all(column.null_count == len(rows) for column in columns.values())
    assert {name: column.type for name, column in columns.items()} == {name: column.type for name, column in served.outcome_columns(outcomes).items()}
