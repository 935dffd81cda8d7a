"""Card payments made up from a seed: skewed accounts and merchants, some disorder, fraud that can be learned and that changes."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.replay.feed import StreamTable

START_MS = 1_736_121_600_000  # Monday, 6 January 2025, UTC
_ZIPF = 1.1
_CURRENCIES = {"DE": "EUR", "FR": "EUR", "ES": "EUR", "GB": "GBP", "US": "USD", "PL": "PLN", "SE": "SEK", "CH": "CHF"}
_POPULATION = (0.3, 0.18, 0.12, 0.12, 0.14, 0.06, 0.05, 0.03)
_ABROAD = 0.05
_EPISODE = (3, 7)
_DISGUISED = 0.1
_REPORTED = 0.9
_REPORT_MEDIAN_MS, _REPORT_SIGMA = 10 * 3_600_000.0, 0.7


@dataclass(frozen=True, slots=True)
class PaymentsOptions:
    """What to make.

    Attributes
    ----------
    count
        Payments.
    interval_ms
        Mean distance of payments in time.
    seed
        The same seed makes the same payments.
    accounts, merchants
        How many; both are visited by a Zipf law with exponent 1.1.
    disordered_ratio, disorder_ms
        This share becomes available late, by up to so much.
    fraud_ratio
        Share of payments that are fraud.
    drift_at, drift_width
        Where in the stream, as a share of its length, the first fraud pattern gives way to the second, and over how much of it.
    """

    count: int = 60_000
    interval_ms: float = 10.0
    seed: int = 7
    accounts: int = 10_000
    merchants: int = 1_000
    disordered_ratio: float = 0.005
    disorder_ms: int = 60_000
    fraud_ratio: float = 0.04
    drift_at: float = 0.75
    drift_width: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 1 or self.interval_ms <= 0:
            raise ValueError(f"expected at least one payment and a positive interval, found {self.count} and {self.interval_ms} ms")


@dataclass(frozen=True, slots=True)
class _Payments:
    """Columns of shape (n,), in any order; `fraud` is what the chargebacks tell."""

    at_ms: NDArray[np.float64]
    account: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount: NDArray[np.float64]
    country: NDArray[np.int64]
    fraud: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Accounts:
    """What is usual for each account: home country, and the logarithm of an ordinary amount."""

    home: NDArray[np.int64]
    habit: NDArray[np.float64]


def generate_payments(options: PaymentsOptions) -> dict[str, StreamTable]:
    """Return `payments` and their `chargebacks`.

    Ordinary payments are of the account's usual size, mostly at home. Fraud comes in episodes of three to six payments of one account within
    minutes. Until the drift it cashes out: several times the usual amount, mostly abroad, at one set of merchants. After it, cards are tested:
    tiny amounts at home, at another set of merchants, faster. One in ten frauds looks like an ordinary payment, and one in ten is never reported;
    the others are reported after a median of ten hours.

    >>> made = generate_payments(PaymentsOptions(count=1_000))
    >>> len(made["payments"]), made["payments"].columns.column("payment_id")[0].as_py()
    (1000, 'p7-000000000')
    """
    generator = np.random.default_rng(options.seed)
    weights = [np.arange(1, n + 1, dtype=np.float64) ** -_ZIPF for n in (options.accounts, options.merchants)]
    account_p, merchant_p = (w / w.sum() for w in weights)
    accounts = _Accounts(generator.choice(len(_POPULATION), options.accounts, p=_POPULATION), generator.normal(np.log(30.0), 0.6, options.accounts))
    frauds = round(options.count * options.fraud_ratio)
    ordinary = _ordinary(options, generator, accounts, account_p, merchant_p, options.count - frauds)
    parts = [ordinary, _fraud(options, generator, accounts, account_p, merchant_p, frauds)] if frauds else [ordinary]
    whole = _Payments(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Payments.__dataclass_fields__))
    order = np.argsort(whole.at_ms, kind="stable")
    made = _Payments(*(getattr(whole, name)[order] for name in _Payments.__dataclass_fields__))
    return {"payments": _payments_table(options, generator, made), "chargebacks": _chargebacks_table(options, generator, made)}


def _ordinary(
    options: PaymentsOptions,
    generator: np.random.Generator,
    accounts: _Accounts,
    account_p: NDArray[np.float64],
    merchant_p: NDArray[np.float64],
    count: int,
) -> _Payments:
    account = generator.choice(options.accounts, count, p=account_p)
    amount = np.exp(accounts.habit[account] + generator.normal(0, 0.5, count))
    country = _country(generator, accounts, account, _ABROAD)
    merchant = generator.choice(options.merchants, count, p=merchant_p)
    at = generator.uniform(0, options.count * options.interval_ms, count)
    return _Payments(at, account, merchant, amount, country, np.zeros(count, np.bool_))


def _fraud(
    options: PaymentsOptions,
    generator: np.random.Generator,
    accounts: _Accounts,
    account_p: NDArray[np.float64],
    merchant_p: NDArray[np.float64],
    count: int,
) -> _Payments:
    span = options.count * options.interval_ms
    sizes = generator.integers(*_EPISODE, count // _EPISODE[0] + 1)
    episode = np.repeat(np.arange(len(sizes)), sizes)[:count]
    begin = generator.uniform(0, span, len(sizes))
    tests = (generator.random(len(sizes)) < np.clip((begin / span - options.drift_at) / max(options.drift_width, 1e-9) + 0.5, 0, 1))[episode]
    account = generator.choice(options.accounts, len(sizes), p=account_p)[episode]
    gaps = generator.exponential(np.where(tests, 20_000.0, 180_000.0))
    passed = np.cumsum(gaps)
    first = np.searchsorted(episode, np.arange(episode[-1] + 1))
    at = np.minimum(begin[episode] + passed - passed[first][episode], span)
    disguised = generator.random(count) < _DISGUISED
    factor = np.where(tests, generator.uniform(0.02, 0.1, count), generator.uniform(2.0, 6.0, count))
    usual = np.exp(accounts.habit[account] + generator.normal(0, 0.3, count))
    amount = np.where(disguised, usual, usual * factor)
    # Two disjoint sets of merchants, a twentieth of them each, neither popular nor rare.
    pool = max(1, options.merchants // 20)
    low = options.merchants // 10
    chosen = generator.integers(0, pool, count) + np.where(tests, low + pool, low)
    merchant = np.where(disguised, generator.choice(options.merchants, count, p=merchant_p), np.minimum(chosen, options.merchants - 1))
    abroad = np.where(tests | disguised, _ABROAD, 0.7)
    return _Payments(at, account, merchant, amount, _country(generator, accounts, account, abroad), np.ones(count, np.bool_))


def _country(
    generator: np.random.Generator, accounts: _Accounts, account: NDArray[np.int64], abroad: float | NDArray[np.float64]
) -> NDArray[np.int64]:
    away = generator.integers(0, len(_POPULATION), len(account))
    return np.where(generator.random(len(account)) < abroad, away, accounts.home[account])


def _payments_table(options: PaymentsOptions, generator: np.random.Generator, made: _Payments) -> StreamTable:
    n = len(made.at_ms)
    at = START_MS + made.at_ms.astype(np.int64)
    late = generator.random(n) < options.disordered_ratio
    available = at + np.where(late, generator.integers(1, options.disorder_ms + 1, n), 0)
    countries = np.array(list(_CURRENCIES))[made.country]
    columns = pa.table(
        {
            "payment_id": _ids(options, n),
            "account_id": [f"a{i:05d}" for i in made.account.tolist()],
            "merchant_id": [f"m{i:04d}" for i in made.merchant.tolist()],
            "amount": np.maximum(0.01, made.amount.round(2)),
            "currency": np.array(list(_CURRENCIES.values()))[made.country],
            "country": countries,
            "event_time": pa.array(at).cast(pa.timestamp("ms")),
        }
    )
    return StreamTable(columns, available)


def _chargebacks_table(options: PaymentsOptions, generator: np.random.Generator, made: _Payments) -> StreamTable:
    n = len(made.at_ms)
    reported = np.flatnonzero(made.fraud & (generator.random(n) < _REPORTED))
    delay = np.exp(generator.normal(np.log(_REPORT_MEDIAN_MS), _REPORT_SIGMA, len(reported)))
    at = START_MS + (made.at_ms[reported] + delay).astype(np.int64)
    ids = _ids(options, n)
    columns = pa.table(
        {
            "payment_id": [ids[i] for i in reported.tolist()],
            "account_id": [f"a{i:05d}" for i in made.account[reported].tolist()],
            "reported_at": pa.array(at).cast(pa.timestamp("ms")),
        }
    )
    return StreamTable(columns, at)


def _ids(options: PaymentsOptions, count: int) -> list[str]:
    return [f"p{options.seed}-{i:09d}" for i in range(count)]
