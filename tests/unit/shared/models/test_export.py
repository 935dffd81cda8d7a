"""The same model gives the same bytes, in whatever process it is exported."""

import onnx

from tests.models import artifact
from tidemill.shared.models.export import canonical_model
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
