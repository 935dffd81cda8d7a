import math

import numpy as np
import pytest

from benchmarks.oracle import WINDOWS, compare, expected_vectors
from benchmarks.payment_stream import Payments, generate


def naive(payments: Payments) -> dict[str, list[float]]:
    """The definition, event by event and pair by pair."""
    out: dict[str, list[float]] = {f"{kind}_{name}": [] for name in WINDOWS for kind in ("count", "sum", "mean", "max")}
    out |= {"distinct_merchants_24h": [], "seconds_since_previous": []}
    now = 0
    for i in range(len(payments)):
        now = max(now, int(payments.event_time_ms[i]))
        mine = [j for j in range(i + 1) if payments.account[j] == payments.account[i]]
        for name, (tile_ms, tiles) in WINDOWS.items():
            inside = [j for j in mine if now // tile_ms - int(payments.event_time_ms[j]) // tile_ms < tiles]
            cents = [int(payments.cents[j]) for j in inside]
            out[f"count_{name}"].append(len(inside))
            out[f"sum_{name}"].append(sum(cents) / 100)
            out[f"mean_{name}"].append(sum(cents) / 100 / len(inside) if inside else 0.0)
            out[f"max_{name}"].append(max(cents, default=0) / 100)
            if name == "24h":
                out["distinct_merchants_24h"].append(len({int(payments.merchant[j]) for j in inside}))
        before = [int(payments.event_time_ms[j]) for j in mine[:-1]]
        out["seconds_since_previous"].append((now - max(before)) / 1000 if before else math.nan)
    return out


def few_accounts(n: int, spacing_ms: float, seed: int) -> Payments:
    """So far apart that every window loses payments, with late ones that outlive or never enter their windows."""
    drawn = generate(n, seed=seed, spacing_ms=spacing_ms)
    random = np.random.default_rng(seed)
    late = np.where(random.random(n) < 0.2, random.integers(0, int(40 * spacing_ms), n), 0)
    return Payments(drawn.account % 3, drawn.merchant % 7, drawn.cents, drawn.currency, drawn.country, drawn.event_time_ms - late)


@pytest.mark.parametrize("spacing_ms", [10, 2_500, 60_000, 1_500_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_oracle_agrees_with_the_definition(spacing_ms: float, seed: int) -> None:
    payments = few_accounts(400, spacing_ms, seed)
    vectors, wanted = expected_vectors(payments), naive(payments)
    assert set(vectors) == set(wanted)
    for name, column in wanted.items():
        np.testing.assert_allclose(vectors[name], column, rtol=1e-13, err_msg=name)


def test_a_wrong_integer_a_wrong_number_a_missing_and_a_doubled_vector_are_found() -> None:
    payments = few_accounts(300, 2_500, 3)
    expected = expected_vectors(payments)
    numbers = np.arange(300)
    assert compare(expected, numbers, expected).agrees
    wrong = {name: column.copy() for name, column in expected.items()}
    wrong["count_1h"][17] += 1
    wrong["sum_5m"][20] *= 1 + 1e-6
    verdict = compare(expected, numbers, wrong)
    assert not verdict.agrees
    assert verdict.differing_integers == 1
    assert verdict.largest_relative_difference > 1e-7
    twice = np.concatenate([numbers[:-1], numbers[:1]])
    verdict = compare(expected, twice, {name: column[twice] for name, column in expected.items()})
    assert (verdict.missing, verdict.doubled, verdict.agrees) == (1, 1, False)
