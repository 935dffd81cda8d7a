"""The same model gives the same bytes, in whatever process it is exported."""

import lightgbm
import numpy as np
import onnx
import pytest

from tests.models import artifact
from tidemill.shared.models.export import canonical_model, lightgbm_to_onnx
from tidemill.shared.models.signature import Column


def test_bytes_do_not_depend_on_the_order_in_which_operator_sets_are_listed() -> None:
    columns = tuple(Column(name=name, type="double") for name in "abc")
    exported = artifact("lightgbm", columns)[0].onnx
    shuffled = onnx.load_from_string(exported)
    sets = list(shuffled.opset_import)
    assert len(sets) > 1, "the converter's order is that of a Python set of these"
    del shuffled.opset_import[:]
    shuffled.opset_import.extend(reversed(sets))
    assert shuffled.SerializeToString(deterministic=True) != exported
    assert canonical_model(shuffled) == exported


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
def test_inputs_that_lie_next_to_each_other_take_the_branch_that_they_took(objective: str) -> None:
    """Columns of neighbouring 32-bit numbers: every threshold lies between two of them."""
    import onnxruntime

    rng = np.random.default_rng(3)
    steps = rng.integers(0, 40, (3_000, 4))
    matrix = (np.float32(0.8333) + steps.astype(np.float32) * np.float32(2**-24)).astype(np.float32)
    assert len(np.unique(matrix)) > 20
    label = {"binary": steps[:, 0] > 19, "multiclass": (steps[:, 0] // 14), "regression": steps[:, 0]}[objective].astype(np.float64)
    settings = {"objective": objective, "verbosity": -1, "num_leaves": 15, "seed": 1, **({"num_class": 3} if objective == "multiclass" else {})}
    booster = lightgbm.train(settings, lightgbm.Dataset(matrix, label), 20)
    session = onnxruntime.InferenceSession(lightgbm_to_onnx(booster, 4), providers=["CPUExecutionProvider"])
    answer = np.asarray(session.run(None, {"input": matrix})[-1])
    scores = {"binary": answer[:, -1], "multiclass": answer, "regression": answer.ravel()}[objective]
    assert np.abs(scores - booster.predict(matrix)).max() < 1e-5
