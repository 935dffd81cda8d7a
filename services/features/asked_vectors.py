"""What the online writer needs to know of entities, from the vectors of the requests that named them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.application.plan import Plan
from shared.avro.journal import JournalBatch
from shared.online_store.layout import entity_layouts


class AskedVectors:
    """An `EntityState` of vectors: the features of each entity as of its last request.

    Stands in for a core that can be read: an update without a request is not seen, and there is nothing to fill an emptied store from.
    """

    def __init__(self, plan: Plan) -> None:
        self._asks = {view.entity: view.ask_columns for view in plan.views if view.entity is not None}
        self._features = {entity: layout.features for entity, layout in entity_layouts(plan).items()}
        self._rows: dict[str, dict[str, NDArray[np.float64]]] = {entity: {} for entity in self._features}
        self._touched: dict[str, dict[str, None]] = {entity: {} for entity in self._features}

    def collect(self, batch: JournalBatch, vectors: pa.RecordBatch) -> None:
        """Take note of a step's vectors."""
        row_of = {int(offset): row for row, offset in enumerate(vectors.column("_journal_offset").to_pylist())}
        for entity, features in self._features.items():
            last: dict[str, int] = {}
            for stream, column in self._asks[entity].items():
                group = batch.groups.get(stream)
                if group is None:
                    continue
                asked = batch.offsets[group.rows].tolist()
                for key, offset in zip(group.columns.column(column).to_pylist(), asked, strict=True):
                    if key is not None and offset in row_of:
                        last[str(key)] = max(row_of[offset], last.get(str(key), -1))
            if last:
                chosen = vectors.take(pa.array(list(last.values())))
                matrix = np.column_stack([_floats(chosen, name) for name in features])
                self._rows[entity].update(zip(last, matrix, strict=True))
                self._touched[entity].update(dict.fromkeys(last))

    def touched(self) -> Mapping[str, Sequence[str]]:
        """Return the keys asked about since the last call."""
        found = {entity: list(keys) for entity, keys in self._touched.items() if keys}
        for keys in self._touched.values():
            keys.clear()
        return found

    def read(self, entity: str, keys: Sequence[str], now_ms: int) -> NDArray[np.float64]:
        """Return the last vectors' features, whatever the time."""
        rows = self._rows[entity]
        return np.array([rows[key] for key in keys], np.float64).reshape(len(keys), len(self._features[entity]))

    def known(self, entity: str) -> Sequence[str]:
        """Return nothing: vectors are no state."""
        return ()


def _floats(vectors: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    if name not in vectors.schema.names:  # No model reads it, so no vector has it.
        return np.full(vectors.num_rows, np.nan)
    return np.asarray(vectors.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
