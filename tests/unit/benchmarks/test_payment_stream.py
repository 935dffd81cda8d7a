import numpy as np

from benchmarks.payment_stream import ACCOUNTS, BEGIN_MS, MERCHANTS, generate


def test_the_same_seed_gives_the_same_payments_and_another_seed_others() -> None:
    one, two, other = generate(5_000), generate(5_000), generate(5_000, seed=8)
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in one.__slots__)
    assert not np.array_equal(one.account, other.account)


def test_payments_are_what_the_workload_says() -> None:
    payments = generate(200_000)
    place = BEGIN_MS + 10 * np.arange(200_000)
    behind = place - payments.event_time_ms
    moved = behind > 0
    assert behind.min() == 0
    assert behind.max() <= 60_000
    assert 0.0045 < moved.mean() < 0.0055
    assert payments.account.max() < ACCOUNTS
    assert payments.merchant.max() < MERCHANTS
    # Zipf 1.1: the first account is 2 ** 1.1 times as frequent as the second, 3 ** 1.1 times as frequent as the third.
    counts = np.bincount(payments.account, minlength=3)
    assert abs(counts[0] / counts[1] - 2**1.1) < 0.1
    assert abs(counts[0] / counts[2] - 3**1.1) < 0.2
    assert 0.009 < (payments.cents == 0).mean() < 0.011


def test_columns_are_those_of_the_schema() -> None:
    columns = generate(10).columns(2, 10)
    assert columns.schema.names == ["payment_id", "account_id", "merchant_id", "amount", "currency", "country", "event_time"]
    assert columns.column("payment_id")[0].as_py() == "p00000000002"
