"""Applications with as many models as one likes, and trained models for them.

``python -m benchmarks.many_models FOLDER --models 100`` writes the application:
a file per stream, per group of views and per model, each with an owner.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray

from tidemill.shared.application.plan import Plan
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.signature import Column, Signature

BASE = Path(__file__).parent / "applications" / "hundred-models"
FEATURES = (
    *("amount", "currency", "country", "account_last.time_since_last", "account_disputed.count_7d"),
    *(f"account_spend.{kind}_{window}" for kind in ("count", "sum", "mean", "max") for window in ("5m", "1h", "24h")),
    *(f"merchant_spend.{kind}_{window}" for kind in ("count", "mean") for window in ("1h", "24h")),
)
COLUMNS_PER_MODEL = 20
CURRENCIES, COUNTRIES = ("CHF", "EUR", "GBP", "SEK", "USD"), ("AT", "CH", "DE", "ES", "FR", "GB", "IT", "NL", "SE", "US")
_MODEL = """\
risk_{number:03}:
  owner: team-{team:02}@example.org
  ask: payments
  features: [{features}]
{question}"""
QUESTIONS = {
    "binary": """\
  kind: binary
  label: {stream: chargebacks, join: payment_id, value: "amount > 0", max_delay: 30d, on_timeout: negative}
  fallback: {default: 0.01}
""",
    "multiclass": """\
  kind: multiclass
  classes: [none, part, whole]
  label:
    stream: chargebacks
    join: payment_id
    value: "CASE WHEN amount > 100 THEN 'whole' WHEN amount > 0 THEN 'part' ELSE 'none' END"
    max_delay: 30d
  fallback: {default: none}
""",
    "regression": """\
  kind: regression
  label: {stream: chargebacks, join: payment_id, value: amount, max_delay: 30d}
  fallback: {default: 0.0}
""",
}
"""What a model asks, by kind."""


def write_application(folder: Path, models: int, kind: str = "binary") -> Path:
    """Write the application with `models` models of a kind, each reading 20 of the 21 features and owned by one of 20 teams; return the folder."""
    shutil.copytree(BASE, folder, dirs_exist_ok=True)
    place = folder / "models"
    place.mkdir(exist_ok=True)
    for number in range(models):
        skipped = number % len(FEATURES)
        chosen = [feature for i, feature in enumerate(FEATURES) if i != skipped]
        text = _MODEL.format(number=number, team=number % 20, features=", ".join(chosen), question=QUESTIONS[kind])
        (place / f"risk_{number:03}.yaml").write_text(text, encoding="utf-8")
    return folder


def trained(plan: Plan, model: str, seed: int, trees: int = 100, leaves: int = 31, rows: int = 4_000) -> Artifact:
    """Return a LightGBM model over a model's own columns, of its kind, fitted on seeded data of its own."""
    rng = np.random.default_rng(seed)
    types = {feature.name: feature.type for feature in plan.features}
    columns = tuple(_column(name, types[name], rng) for name in plan.models[model].features)
    matrix = np.column_stack([_values(column, rows, rng) for column in columns]).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    weights = rng.normal(size=len(columns))
    kind = plan.models[model].kind
    truth = np.nan_to_num(matrix / np.nanstd(matrix, axis=0)) @ weights + rng.normal(size=rows)
    label = truth if kind.name == "regression" else np.digitize(truth, [0.0] if kind.name == "binary" else np.quantile(truth, [0.5, 0.8]))
    parameters = {"objective": kind.name, "num_leaves": leaves, "verbose": -1, "num_threads": 1, "seed": seed, "deterministic": True}
    parameters |= {"num_class": kind.width} if kind.classes else {}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, label), trees)
    parity = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in matrix[:8])
    scores = tuple(np.asarray(booster.predict(matrix[:8])).tolist())
    signature = Signature(
        model=model, version=f"2026-01-01-{seed:06}", family="lightgbm", columns=columns, threshold=0.5,
        kind=kind.name, classes=kind.classes, parity_rows=parity, parity_scores=scores, parity_tolerance=1e-5,
        interval_lower=-1.5 if kind.name == "regression" else None, interval_upper=2.5 if kind.name == "regression" else None,
    )  # fmt: skip
    return Artifact(signature, lightgbm_to_onnx(booster, len(columns)))


def _column(name: str, kind: str, rng: np.random.Generator) -> Column:
    if kind == "double":
        return Column(name=name, type="double")
    values = CURRENCIES if name == "currency" else COUNTRIES
    return Column(name=name, type="string", codes={value: float(rng.random()) for value in values}, unknown=0.01)


def _values(column: Column, rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.choice(list(column.codes.values()), rows) if column.type == "string" else rng.lognormal(2.0, 1.0, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write an application."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--kind", choices=sorted(QUESTIONS), default="binary")
    options = parser.parse_args(arguments)
    print(f"wrote {write_application(options.folder, options.models, options.kind)} with {options.models} models")


if __name__ == "__main__":
    main()
