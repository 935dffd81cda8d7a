"""A table as its file has it, before anything is made of its texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl


@dataclass(frozen=True, slots=True)
class RawTable:
    """The rows of a file.

    Attributes
    ----------
    form
        What the file is, in words: ``CSV separated by ';'``.
    frame
        One column each; text where the format knows nothing else.
    place
        File and line (or row) of a row counted from 0.
    declared
        Values that the file itself lists for a column (ARFF's nominal attributes), in its order.
    notes
        What is worth saying about how the file was read.
    """

    file: Path
    form: str
    frame: pl.DataFrame
    place: Callable[[int], str]
    declared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
