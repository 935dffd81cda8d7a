"""Takes state from a checkpoint's log: views a run at a time, in columns; what is small entry by entry, at the end."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.services.features.domain.entities import EntityIndex
from tidemill.services.features.domain.reference_state import ReferenceState
from tidemill.services.features.domain.request_keys import RequestKeys
from tidemill.services.features.domain.view_state import ViewState
from tidemill.shared.log.packed import Packed

# Arrow refuses a slice without an end; no key is as long as this.
_END = 1 << 30


class CheckpointLoading:
    """Fills views, references and request tables; of several entries of a key the last counts, and one without a value deletes."""

    def __init__(self, views: Sequence[tuple[ViewState, EntityIndex]], references: Sequence[ReferenceState], requests: Sequence[RequestKeys]) -> None:
        self._views = views
        self._references = {reference.stream.name.encode(): reference for reference in references}
        self._requests = {table.name.encode(): table for table in requests}
        self._others: dict[bytes, bytes] = {}

    def take(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Take the next run of the log."""
        names, blobs = Packed.of(keys), Packed.of(values)
        if names is None or blobs is None:
            latest = {key: value for key, value in zip(keys, values, strict=True) if key is not None}
            for key in [key for key, value in latest.items() if value is None]:
                del latest[key]
                self._forget(key)
            names, blobs = Packed.of(list(latest)), Packed.of(list(latest.values()))
            assert names is not None and blobs is not None  # noqa: S101 - nulls are gone
        column = names.column()
        others = np.ones(len(names), np.bool_)
        for state, index in self._views:
            mine = pc.starts_with(column, pattern=state.prefix).to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(mine)
            if not len(rows):
                continue
            others &= ~mine
            slots = index.slots(pc.binary_slice(names.take(rows).column(), len(state.prefix.encode()), _END).cast(pa.large_string()))
            _, last = np.unique(slots[::-1], return_index=True)
            kept = np.sort(len(slots) - 1 - last)
            state.unpack(slots[kept], blobs.take(rows[kept]))
        for row in np.flatnonzero(others).tolist():
            self._others[names[row]] = blobs[row]

    def finish(self) -> None:
        """Load what is not of views; ValueError for an entry that belongs to nothing of this application."""
        chunks: dict[bytes, list[tuple[int, bytes]]] = {name: [] for name in self._requests}
        for place, blob in self._others.items():
            kind, _, rest = place.partition(b"|")
            name, _, key = rest.partition(b"|")
            if kind == b"reference" and name in self._references:
                reference = self._references[name]
                reference.unpack(reference.index.slot(key.decode()), blob)
            elif kind == b"requests" and name in chunks:
                chunks[name].append((int(key), blob))
            else:
                raise ValueError(f"checkpoint entry {place!r} belongs to no view or reference stream of this application; rebuild from the journal")
        self._others = {}
        for name, table in self._requests.items():
            table.restore(chunks[name])

    def _forget(self, key: bytes) -> None:
        self._others.pop(key, None)
        for state, index in self._views:
            prefix = state.prefix.encode()
            if key.startswith(prefix) and (slot := index.find(key[len(prefix) :].decode())) >= 0:
                state.release(slot)
