"""The made-up payments are what they say: skewed, out of order, with fraud that can be learned and that changes."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tidemill.examples.payments.generator import START_MS, PaymentsOptions, generate_payments
from tidemill.replay.feed import StreamTable


def frame(table: StreamTable) -> pd.DataFrame:
    rows: pd.DataFrame = table.columns.to_pandas()
    return rows.assign(available=table.available_ms)


def test_the_same_seed_makes_the_same_payments() -> None:
    options = PaymentsOptions(count=2_000)
    first, second, other = generate_payments(options), generate_payments(options), generate_payments(PaymentsOptions(count=2_000, seed=8))
    assert all(first[name].columns.equals(second[name].columns) for name in first)
    assert not first["payments"].columns.equals(other["payments"].columns)


def test_accounts_follow_zipf_and_half_a_percent_is_out_of_order() -> None:
    payments = frame(generate_payments(PaymentsOptions(count=200_000))["payments"])
    counts = payments["account_id"].value_counts()
    assert counts.index[0] == "a00000" and 1.8 < counts.iloc[0] / counts["a00001"] < 2.5, "2 ** 1.1 = 2.14"
    event_ms = payments["event_time"].astype("datetime64[ms]").astype(np.int64)
    behind = payments["available"] - event_ms
    assert 0.004 < (behind > 0).mean() < 0.006 and 0 <= behind.min() and behind.max() <= 60_000
    assert abs((event_ms.max() - START_MS) / len(payments) - 10) < 0.1
    assert payments["payment_id"].is_unique and (payments["amount"] > 0).all()


def test_fraud_can_be_learned_and_what_was_learned_wears_out() -> None:
    made = generate_payments(PaymentsOptions(count=40_000, interval_ms=60_000))
    payments, chargebacks = frame(made["payments"]), frame(made["chargebacks"])
    fraud = payments["payment_id"].isin(chargebacks["payment_id"])
    assert 0.03 < fraud.mean() < 0.04, "four percent, one in ten never reported"
    early = chargebacks.merge(payments, on="payment_id", suffixes=("", "_paid"))
    assert (early["available"] > early["available_paid"]).all()
    usual = payments.groupby("account_id")["amount"].transform("median")
    merchant = payments["merchant_id"].str[1:].astype(int)
    columns = np.column_stack([np.log(payments["amount"] / usual), (merchant // 50).isin([2]), (merchant // 50).isin([3])]).astype(float)
    place = np.arange(len(payments)) / len(payments)
    learned, before, after = place < 0.4, (place > 0.45) & (place < 0.68), place > 0.82
    model = LogisticRegression().fit(columns[learned], fraud[learned])
    scores = model.predict_proba(columns)[:, 1]
    assert roc_auc_score(fraud[before], scores[before]) > 0.85
    assert roc_auc_score(fraud[after], scores[after]) < 0.6
    again = LogisticRegression().fit(columns[after], fraud[after])
    assert roc_auc_score(fraud[after], again.predict_proba(columns[after])[:, 1]) > 0.85
