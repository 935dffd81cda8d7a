"""What a model expects and how its inputs become numbers; travels with the model."""

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from tidemill.shared.kinds.kinds import kind_of
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.error_model import ErrorModel

LARGEST_INPUT = 2.0**63
"""A number beyond is missing for every model: its square no longer fits a model's 32 bits. Every 64-bit integer is within."""


def within_range(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make inputs that are too large for a model missing (NaN), in place; training and scoring share this rule."""
    if matrix.size and (np.fmax.reduce(matrix, axis=None) > LARGEST_INPUT or np.fmin.reduce(matrix, axis=None) < -LARGEST_INPUT):
        matrix[np.abs(matrix) > LARGEST_INPUT] = np.nan
    return matrix


class Column(BaseModel):
    """One input: a number, or a category with the number that stands for each value seen in training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: Literal["double", "string"]
    codes: dict[str, float] = {}
    unknown: float = float("nan")

    @cached_property
    def contents(self) -> str:
        """Digest of the table of codes: equal for columns that give every value the same number."""
        return hashlib.sha256(json.dumps([self.unknown, sorted(self.codes.items())]).encode()).hexdigest()


class Signature(BaseModel):
    """The contract of an artifact.

    Attributes
    ----------
    kind, classes
        What the model answers, as in the application file; it serves no model of another kind, or with other classes.
    parity_rows, parity_scores
        Encoded inputs and the scores the trainer's library gave for them (of a multiclass model a probability for each class): checked at every load.
    parity_tolerance
        Largest absolute difference that is still the same model.
    calibration
        What makes the served scores of the graph's; None where they are the same.
    interval_lower, interval_upper
        Regression: what is added to a score for the ends of its prediction interval; None where the model has none.
    errors
        Regression: how far from the truth each answer is expected to be; None where the model does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    model: str
    version: str
    family: str
    columns: tuple[Column, ...]
    kind: Literal["binary", "multiclass", "regression"] = "binary"
    classes: tuple[str, ...] = ()
    threshold: float
    parity_rows: tuple[tuple[float | None, ...], ...]
    parity_scores: tuple[float, ...] | tuple[tuple[float, ...], ...]
    parity_tolerance: float = 1e-6
    calibration: Calibration | None = None
    interval_lower: float | None = None
    interval_upper: float | None = None
    errors: ErrorModel | None = None
    details: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Signature":
        kind_of(self)
        if (self.interval_lower is None) != (self.interval_upper is None):
            raise ValueError("expected both ends of the interval, or none")
        if self.interval is not None and (self.kind != "regression" or not -math.inf < self.interval[0] <= self.interval[1] < math.inf):
            raise ValueError(f"expected an interval of finite ends in their order (kind: regression), found {self.interval} (kind: {self.kind})")
        if self.errors is not None and (self.kind != "regression" or len(self.errors.parity) != len(self.parity_rows)):
            raise ValueError(f"expected an error model of a regression, with as many parity rows as the model, found one of kind {self.kind}")
        return self

    @property
    def interval(self) -> tuple[float, float] | None:
        """What is added to a score for the ends of its prediction interval, if the model has one."""
        return None if self.interval_lower is None or self.interval_upper is None else (self.interval_lower, self.interval_upper)

    def to_json(self) -> bytes:
        """Return canonical bytes: the same signature has the same."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()

    def encode(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        """Return the inputs as a matrix, shape (n, columns), NaN where missing; KeyError names a column that is not there."""
        matrix = np.empty((batch.num_rows, len(self.columns)), np.float32)
        for j, column in enumerate(self.columns):
            index = batch.schema.get_field_index(column.name)
            if index < 0:
                raise KeyError(f"model {self.model} {self.version} expects the feature {column.name}, found {batch.schema.names}")
            values = batch.column(index)
            numbers = _codes(values, column) if column.type == "string" else values.cast(pa.float64()).to_numpy(zero_copy_only=False)
            with np.errstate(over="ignore"):
                matrix[:, j] = numbers
        return within_range(matrix)

    def parity_matrix(self) -> NDArray[np.float32]:
        """Return the parity rows as a matrix, NaN where missing."""
        rows: Sequence[Sequence[float | None]] = self.parity_rows
        return np.array([[np.nan if value is None else value for value in row] for row in rows], np.float32).reshape(len(rows), len(self.columns))


def _codes(values: pa.Array, column: Column) -> NDArray[np.float64]:
    encoded = pc.dictionary_encode(values)
    table = np.array([column.codes.get(value, column.unknown) for value in encoded.dictionary.to_pylist()] + [np.nan])
    return table[np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)]
