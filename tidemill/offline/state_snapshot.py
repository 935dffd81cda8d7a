"""The features' state at a place of the archived journal, in a file: a later backfill begins there instead of at the beginning."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tidemill.offline.fold_start import StartRefusedError
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.records import StateEntry
from tidemill.shared.version import CODE_VERSION

_FORMAT = "tidemill-state-1"
_SCHEMA = pa.schema([("partition", pa.int32()), ("key", pa.binary()), ("value", pa.large_binary())])
_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """All state of all partitions.

    Attributes
    ----------
    positions
        By partition, the journal offset that is the next to fold.
    times_ms
        By partition, the journal time of the newest record folded.
    tables
        Identities of the journal tables that were folded.
    entries
        By partition, blobs by key.
    """

    positions: Mapping[int, int]
    times_ms: Mapping[int, int]
    tables: Mapping[str, str]
    entries: Mapping[int, Mapping[bytes, bytes]] = field(repr=False)

    def entries_of(self, partition: int) -> list[StateEntry]:
        """Return the blobs of a partition as a core restores them."""
        return [StateEntry(key, value) for key, value in self.entries.get(partition, {}).items()]


def save_snapshot(path: Path, plan: Plan, snapshot: StateSnapshot) -> None:
    """Write a snapshot; the file is there whole or not at all."""
    said = {
        "format": _FORMAT, "app": plan.application.app, "application_hash": plan.application_hash, "code": CODE_VERSION,
        "tables": dict(snapshot.tables), "positions": {str(p): offset for p, offset in snapshot.positions.items()},
        "times_ms": {str(p): at for p, at in snapshot.times_ms.items()},
    }  # fmt: skip
    schema = _SCHEMA.with_metadata({"tidemill": json.dumps(said)})
    part = path.with_name(f"{path.name}.part")
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for partition, entries in snapshot.entries.items():
            pairs = list(entries.items())
            for at in range(0, len(pairs), _ROWS):
                keys, values = zip(*pairs[at : at + _ROWS], strict=True)
                columns = [pa.array([partition] * len(keys), pa.int32()), pa.array(keys, pa.binary()), pa.array(values, pa.large_binary())]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    os.replace(part, path)


def load_snapshot(path: Path, plan: Plan) -> StateSnapshot:
    """Read a snapshot of this application and this code.

    Raises
    ------
    StartRefusedError
        The file is no snapshot, or one of another application, of other views or of other code.
    """
    try:
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
            said = json.loads((reader.schema.metadata or {}).get(b"tidemill", b"{}"))
            if said.get("format") != _FORMAT:
                raise StartRefusedError(
                    f"{path}: expected a state snapshot ({_FORMAT}), found {said.get('format', 'another file')}; make one with --save-state"
                )
            for what, ours in (("app", plan.application.app), ("application_hash", plan.application_hash), ("code", CODE_VERSION)):
                if said[what] != ours:
                    raise StartRefusedError(
                        f"{path}: expected state of {what} {ours}, found {said[what]}; state fits the views it was folded by: "
                        "begin at the beginning of the journal, and save its state anew"
                    )
            entries: dict[int, dict[bytes, bytes]] = {}
            for batch in reader:
                for partition, key, value in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    entries.setdefault(partition, {})[key] = value
    except (OSError, pa.ArrowException) as error:
        raise StartRefusedError(f"{path}: expected a state snapshot ({_FORMAT}): {error}; make one with --save-state") from error
    positions, times = ({int(p): int(v) for p, v in said[name].items()} for name in ("positions", "times_ms"))
    return StateSnapshot(positions, times, said["tables"], entries)
