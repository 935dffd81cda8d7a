"""What a reader gets: one row of features per key, and how far each can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Status = Literal["found", "missing", "expired"]


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Features of n entities of one kind, in the order in which they were asked for.

    Attributes
    ----------
    names
        The d features, in the order of the application file.
    values : float64 array, shape (n, d)
        As of each row's `journal_time_ms`; NaN where a feature is missing, and in every row that is not `found`.
    status : n words
        ``found``; ``missing``: the store knows nothing of the key (never seen, or expired so long ago that it was forgotten);
        ``expired``: there was a value, and its time to live has passed.
    journal_time_ms, journal_offset : int64 arrays, shape (n,)
        The value holds every record of the journal below that offset and is as of that time; -1 where missing. Windows shrink as
        time passes, also without events: a value is exact for its journal time only, and `age_ms` says how long ago that is.
    age_ms : int64 array, shape (n,)
        The reader's time minus `journal_time_ms`; -1 where missing.
    layout
        Digest of the layout the values are packed in.
    rebuilding
        True while the writer fills the store from its state (after a flush, for a new layout): ``missing`` may then mean "not yet".
    """

    entity: str
    keys: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    status: tuple[Status, ...]
    journal_time_ms: NDArray[np.int64]
    journal_offset: NDArray[np.int64]
    age_ms: NDArray[np.int64]
    layout: str
    rebuilding: bool

    def __len__(self) -> int:
        return len(self.keys)

    def to_arrow(self) -> pa.Table:
        """Return a table: `key`, `status`, `journal_time` (timestamp), `age_ms`, then one column per feature; null where missing."""
        unknown = self.journal_time_ms < 0
        columns = {
            "key": pa.array(self.keys, pa.string()),
            "status": pa.array(self.status, pa.string()),
            "journal_time": pa.array(self.journal_time_ms, pa.timestamp("ms", "UTC"), mask=unknown),
            "age_ms": pa.array(self.age_ms, mask=unknown),
        }
        columns |= {name: pa.array(self.values[:, i], from_pandas=True) for i, name in enumerate(self.names)}
        return pa.table(columns)


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the keys as a tuple; TypeError for one text instead of several, or for something else than text."""
    if isinstance(keys, str):
        raise TypeError(f"expected a sequence of keys, got the text {keys!r}; ask for [{keys!r}]")
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"expected keys as text, got {key!r} ({type(key).__name__}); entities are text columns")
    return tuple(keys)
