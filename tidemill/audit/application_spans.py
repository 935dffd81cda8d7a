"""Which application a run had from where to where in the journal, by the marks of features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_END = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class ApplicationSpan:
    """Journal offsets [begin, end) of a partition that were answered by one application, by its hash."""

    application: str
    begin: int
    end: int


def application_spans(marks: Sequence[Mapping[str, Any]], present: str) -> list[ApplicationSpan]:
    """Return the spans of a partition, in order; one that is empty (two switches at one offset) is left out.

    Parameters
    ----------
    marks
        As the topic has them.
    present
        The application that the run has now. A mark of views alone, of a version that marked no applications, tells of the one it names.

    Examples
    --------
    >>> marks = [{"application_hash": "a", "journal_offset": 0}, {"application_hash": "b", "journal_offset": 7}]
    >>> [(span.application, span.begin, span.end == _END) for span in application_spans(marks, "b")]
    [('a', 0, False), ('b', 7, True)]
    """
    if not any(mark["application_hash"] == present for mark in marks):
        # Made by a version that marked views only, or nothing was read yet.
        return [ApplicationSpan(present, 0, _END)]
    begins = [*(int(mark["journal_offset"]) for mark in marks), _END]
    begins[0] = 0
    spans = [ApplicationSpan(str(mark["application_hash"]), begin, end) for mark, begin, end in zip(marks, begins, begins[1:], strict=False)]
    return [span for span in spans if span.begin < span.end]
