"""Labels that come as text, as numbers of their own or as truth values, and the float that each is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.kinds.kind import words

_WHOLE = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True, slots=True)
class LabelCodes:
    """Which values are labels, and which float each is in topics and files. Pure.

    Attributes
    ----------
    given
        The values, of the type of the label's expression; each once.
    labels
        The float of each, of the same length.
    """

    given: pa.Array
    labels: pa.Array

    @classmethod
    def of(cls, meanings: Mapping[str, float], kind: pa.DataType) -> "LabelCodes":
        """Read the values as they are spelled in the application file.

        Raises
        ------
        UnfitSpellingError
            An expression of this type is never equal to one of them.
        """
        values = []
        for text in meanings:
            value = _value(text, kind)
            if value is None or value in values:
                raise UnfitSpellingError(text)
            values.append(value)
        return cls(pa.array(values, kind), pa.array(list(meanings.values()), pa.float64()))

    @property
    def expected(self) -> str:
        """What a label must be, in words for messages."""
        return f"one of {words(tuple(repr(value) for value in self.given.to_pylist()))}"

    def decode(self, values: pa.Array) -> pa.Array:
        """Return the labels as floats, shape (n,); null where there is no value, or one that is no label.

        >>> LabelCodes.of({"no": 0.0, "yes": 1.0}, pa.string()).decode(pa.array(["yes", "maybe", None])).to_pylist()
        [1.0, None, None]
        """
        # Arrow's hash of -0.0 is not that of 0.0.
        plain = pc.add(values, 0.0) if pa.types.is_floating(values.type) else values
        return self.labels.take(pc.index_in(plain, value_set=self.given))


class UnfitSpellingError(ValueError):
    """A value that no record can give.

    Attributes
    ----------
    text
        As it is spelled.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"expected a value that the label's expression can give once, found {text!r}")
        self.text = text


def _value(text: str, kind: pa.DataType) -> str | bool | int | float | None:
    if pa.types.is_string(kind):
        return text
    if pa.types.is_boolean(kind):
        return {"true": True, "false": False}.get(text)
    if pa.types.is_integer(kind):
        return int(text) if _WHOLE.fullmatch(text) else None
    try:
        return float(text) + 0.0
    except ValueError:
        return None
