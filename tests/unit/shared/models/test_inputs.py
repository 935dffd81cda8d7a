import numpy as np
import pyarrow as pa
import pytest

from tidemill.shared.models.blocks import rows_of
from tidemill.shared.models.inputs import Inputs
from tidemill.shared.models.signature import Column, Signature


def signature(*columns: Column) -> Signature:
    return Signature(model="m", version="v", family="f", threshold=0.5, parity_rows=(), parity_scores=(), columns=columns)


A = Column(name="c", type="string", codes={"a": 0.25, "b": 2.0}, unknown=-1.0)
SAME = Column(name="c", type="string", codes={"b": 2.0, "a": 0.25}, unknown=-1.0)
OTHER = Column(name="c", type="string", codes={"b": 9.0, "z": 1 / 3}, unknown=0.5)
NUMBER, WHOLE, TRUTH = (Column(name=name, type="double") for name in ("d", "i", "t"))
MODELS = [signature(A, NUMBER), signature(NUMBER, OTHER, WHOLE), signature(SAME), signature(TRUTH, NUMBER, A)]


def batch(n: int) -> pa.RecordBatch:
    rng = np.random.default_rng(n)
    hidden = [rng.random(n) < 0.2 for _ in range(4)]
    return pa.RecordBatch.from_pydict(
        {
            "t": pa.array(rng.random(n) < 0.5, mask=hidden[0]),
            "c": pa.array(rng.choice(["a", "b", "z", "nobody knows"], n), pa.string(), mask=hidden[1]),
            "d": pa.array(rng.normal(size=n), mask=hidden[2]),
            "i": pa.array(rng.integers(-(2**40), 2**40, n), mask=hidden[3]),
        }
    )


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 100, 1_000])
def test_every_model_gets_the_numbers_of_its_own_signature(rows: int) -> None:
    inputs = Inputs([model.columns for model in MODELS])
    blocks = inputs.encode(batch(rows))
    for model, positions in zip(MODELS, inputs.positions, strict=True):
        assert np.array_equal(rows_of(blocks, positions)[:rows], model.encode(batch(rows)), equal_nan=True)


def test_what_is_the_same_is_encoded_once() -> None:
    assert Inputs([model.columns for model in MODELS]).width == 5  # d, i, t, and two different tables of c


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="expect the feature d, found"):
        Inputs([MODELS[0].columns]).encode(batch(3).select(["c"]))
