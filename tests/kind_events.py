"""Two small applications, one of kind multiclass and one of kind regression: their folders, seeded events, and models made by hand."""

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax

from tests.error_models import stump
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.signature import Column, Signature

THREE_CLASSES = Path(__file__).parent / "applications" / "three_classes"
LEARNED_CLASSES = Path(__file__).parent / "applications" / "learned_classes"
AMOUNTS = Path(__file__).parent / "applications" / "amounts"
SPECIES = ("setosa", "versicolor", "virginica")
START = datetime(2026, 1, 5, tzinfo=UTC)
WEIGHT_BOUND = 3.5
# Columns: petal length and sepal length. The fourth species is one that only later models know.
_WEIGHTS = np.array([[-1.0, 0.2, 0.9, 0.3], [0.1, 0.0, 0.3, 0.2]])
_BIASES = np.array([3.0, 0.5, -3.0, 0.0])
Event = dict[str, Any]


def flowers(count: int, seed: int = 0, per_day: int = 60) -> tuple[list[Event], list[Event]]:
    """Requests and labels, each in the order of its time: labels come after some hours, every eleventh never, every nineteenth is corrected."""
    generator = np.random.default_rng(seed)
    asked: list[Event] = []
    named: list[Event] = []
    for i in range(count):
        species = int(generator.choice(3, p=[0.5, 0.3, 0.2]))
        seen = START + timedelta(days=i / per_day)
        asked.append({
            "flower_id": f"f{i}", "seen_at": seen, "garden": f"g{generator.integers(4)}",
            "petal_length": round(1.5 + 1.6 * species + float(generator.normal(0, 0.6)), 3),
            "petal_width": None if generator.random() < 0.05 else round(0.3 + 0.8 * species + float(generator.normal(0, 0.3)), 3),
            "sepal_length": round(5.0 + 0.6 * species + float(generator.normal(0, 0.5)), 3),
        })  # fmt: skip
        if i % 11:
            named.append(_label("naming", i, "flower_id", f"f{i}", "named_at", seen, generator) | {"species": SPECIES[species]})
        if i % 19 == 1:
            named.append(
                _label("correction", i, "flower_id", f"f{i}", "named_at", seen + timedelta(hours=20), generator) | {"species": SPECIES[species - 1]}
            )
    return asked, sorted(named, key=lambda one: one["named_at"])


def parcels(count: int, seed: int = 0, per_day: int = 60) -> tuple[list[Event], list[Event]]:
    """Requests and labels, each in the order of its time: labels come after some hours, every eleventh never."""
    generator = np.random.default_rng(seed)
    asked: list[Event] = []
    weighed: list[Event] = []
    for i in range(count):
        shipped, sender, volume = START + timedelta(days=i / per_day), int(generator.integers(4)), float(generator.gamma(2.0, 2.0))
        asked.append({
            "parcel_id": f"p{i}", "shipped_at": shipped, "sender": f"s{sender}", "volume": round(volume, 3),
            "distance": None if generator.random() < 0.05 else round(float(generator.uniform(10, 900)), 1),
        })  # fmt: skip
        if i % 11:
            weight = round(0.6 * volume + sender + float(generator.normal(0, 0.5)), 3)
            weighed.append(_label("weighing", i, "parcel_id", f"p{i}", "weighed_at", shipped, generator) | {"weight": weight})
    return asked, sorted(weighed, key=lambda one: one["weighed_at"])


def write_csv(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Write events as a file for replays and backtests; times are ISO 8601."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(events[0]))
        writer.writeheader()
        writer.writerows({name: value.isoformat() if isinstance(value, datetime) else value for name, value in event.items()} for event in events)


def species_scores(rows: NDArray[np.float64], count: int = len(SPECIES)) -> NDArray[np.float64]:
    """What `species_model` of so many species scores, shape (n, count), of petal lengths and sepal lengths, shape (n, 2)."""
    scores: NDArray[np.float64] = softmax(rows @ _WEIGHTS[:, :count] + _BIASES[:count], axis=1)
    return scores


def species_model(version: str = "v1", **changes: Any) -> Artifact:
    """A softmax of two columns, without missing values, of three classes or of more."""
    count = max(len(SPECIES), len(changes.get("classes", SPECIES)))
    weights, biases = _WEIGHTS[:, :count].astype(np.float32), _BIASES[:count].astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weights"], ["product"]),
            helper.make_node("Add", ["product", "biases"], ["sums"]),
            helper.make_node("Softmax", ["sums"], ["probabilities"], axis=1),
        ],
        "species",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, count])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(biases, "biases")],
    )
    columns = (Column(name="petal_length", type="double"), Column(name="sepal_length", type="double"))
    rows = np.random.default_rng(1).uniform(1, 6, (8, 2))
    scores = tuple(tuple(row) for row in species_scores(rows, count).tolist())
    made = {"columns": columns, "kind": "multiclass", "classes": SPECIES, "parity_scores": scores, **changes}
    return _artifact(graph, rows, model="species", version=version, **made)


def weight_model(version: str = "v1", **changes: Any) -> Artifact:
    """0.6 times the volume and 1.5, with an interval of 2 below and 3 above, and an error model that tests whether it is more than `WEIGHT_BOUND`."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["input", "slope"], ["product"]), helper.make_node("Add", ["product", "start"], ["weight"])],
        "weight",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("weight", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array([value], np.float32), name) for name, value in (("slope", 0.6), ("start", 1.5))],
    )
    rows = np.random.default_rng(1).uniform(1, 6, (8, 1))
    errors = stump(WEIGHT_BOUND, 1, (rows[:, 0] * 0.6 + 1.5).tolist()) if "kind" not in changes else None
    made = {
        "columns": (Column(name="volume", type="double"),), "kind": "regression", "parity_scores": tuple((rows[:, 0] * 0.6 + 1.5).tolist()),
        "interval_lower": -2.0, "interval_upper": 3.0, "errors": errors, **changes,
    }  # fmt: skip
    return _artifact(graph, rows, model="weight", version=version, **made)


def _artifact(graph: onnx.GraphProto, rows: NDArray[np.float64], **signature: Any) -> Artifact:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    parity = tuple(tuple(row) for row in rows.tolist())
    return Artifact(Signature(**{"family": "by_hand", "threshold": 0.5, "parity_rows": parity, **signature}), model.SerializeToString())


def _label(kind: str, i: int, key: str, of: str, at: str, asked: datetime, generator: np.random.Generator) -> Event:
    return {
        f"{'weighing' if kind == 'weighing' else 'naming'}_id": f"{kind}-{i}",
        key: of,
        at: asked + timedelta(hours=float(generator.uniform(1, 16))),
    }
