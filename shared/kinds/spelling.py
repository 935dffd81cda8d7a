"""How a value of a file or a record is written when it names a class."""

import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

LONGEST_CLASS = 200
"""Characters of a class's name."""
MOST_CLASS_BYTES = 128 << 10
"""What the classes of a model may weigh: an outcome has a probability by class twice, as served and as a challenger said, and must fit its topic."""
_PROBABILITY_BYTES = 10


def class_bytes(classes: Iterable[str]) -> int:
    """Return what a probability by class weighs in a record at most: names in UTF-8, and ten bytes each.

    >>> class_bytes(("setosa", "Lilie"))
    31
    """
    return sum(len(name.encode()) + _PROBABILITY_BYTES for name in classes)


def spelled(value: Any) -> str:  # noqa: ANN401, RUF100 - whatever stands in the file
    """Return the text of a class: whole numbers without a point, truth values as in YAML.

    >>> [spelled(value) for value in ("setosa", 3, 3.0, 2.5, True)]
    ['setosa', '3', '3', '2.5', 'true']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def class_names(values: pa.Array) -> pa.Array:
    """Return the class that each value names, as text; null where it is none: no value, an empty or a very long text, no finite number.

    >>> class_names(pa.array([3.0, 2.5, None, float("nan")])).to_pylist()
    ['3', '2.5', None, None]
    """
    encoded = pc.dictionary_encode(values)
    return pa.array([_name(value) for value in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _name(value: Any) -> str | None:  # noqa: ANN401, RUF100 - whatever stands in a record
    if isinstance(value, float) and not math.isfinite(value):
        return None
    name = spelled(value)
    return name if 1 <= len(name) <= LONGEST_CLASS else None
