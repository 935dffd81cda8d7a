"""Checkpoint entries of any size: one that does not fit a record is cut into parts, of which only those that changed are written."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.log.packed import Packed, packed_or_list, taken
from tidemill.shared.log.records import StateEntry

PART_BYTES = 1 << 19
# Keys of tasks are text, which never holds these bytes.
_MARK = b"\xff\xfe"


class TornStateError(RuntimeError):
    """Parts of a checkpoint entry are missing or do not belong together (crash): the checkpoint topic was changed by somebody else."""


class StateParts:
    """Cuts the entries of one task's checkpoint for the log, and joins them again.

    An entry of at most `part_bytes` stands under its own key. A larger one stands under ``mark|0|key`` (a manifest: number of parts, length,
    CRC-32) and ``mark|1|key``, ``mark|2|key``, ... All parts of a state are written by one transaction, so that a reader of committed
    records finds parts of one state only; compaction keeps the latest of each.

    One object serves one incarnation of a task. It learns from the log which entries are cut (`set_aside`), and what `cut` returns must be
    committed, or the object given up.

    Parameters
    ----------
    part_bytes
        Size of a part, bytes: well below the broker's limit for a record (1 MiB by default), as keys and framing come on top.
    """

    def __init__(self, part_bytes: int = PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self._loaded: dict[bytes, dict[int, bytes]] = {}
        self._digests: dict[bytes, list[bytes]] = {}

    def set_aside(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Take the parts out of a run of the checkpoint's log; returns the other entries, in their order."""
        keys = packed_or_list(keys)
        are_parts = _are_parts(keys)
        rows = np.flatnonzero(are_parts)
        if not len(rows):
            return keys, values
        for row in rows.tolist():
            place, value = keys[row], values[row]
            if place is not None:
                number, _, key = place[len(_MARK) + 1 :].partition(b"|")
                parts = self._loaded.setdefault(key, {})
                if value is None:
                    parts.pop(int(number), None)
                else:
                    parts[int(number)] = value
        others = np.flatnonzero(~are_parts)
        return taken(keys, others), taken(values, others)

    def joined(self) -> list[StateEntry]:
        """Return what the parts of the whole log add up to; call once, at its end.

        Raises
        ------
        TornStateError
            Parts are missing or disagree with their manifest (crash).
        """
        entries = []
        for key, parts in self._loaded.items():
            if not parts:
                continue
            manifest = json.loads(parts.pop(0, b"{}"))
            whole = b"".join(parts[number] for number in sorted(parts))
            head = {"parts": len(parts), "bytes": len(whole), "crc": zlib.crc32(whole)}
            if head != manifest:
                raise TornStateError(
                    f"checkpoint entry {key!r}: expected the parts that its manifest names ({manifest or 'missing'}), found {head};"
                    " somebody else has written to the checkpoint topic or deleted from it: empty it, and the state is made anew from the inputs"
                )
            self._digests[key] = [_digest(parts[number]) for number in sorted(parts)]
            entries.append(StateEntry(key, whole))
        self._loaded = {}
        return entries

    def cut(self, entries: Iterable[StateEntry]) -> list[StateEntry]:
        """Return entries as they go to the log, each no larger than a part."""
        written: list[StateEntry] = []
        for entry in entries:
            if entry.value is not None and len(entry.value) > self._part_bytes:
                written += self._cut(entry.key, entry.value)
            else:
                if (cut_before := self._digests.pop(entry.key, None)) is not None:
                    written += [StateEntry(_place(entry.key, number), None) for number in range(len(cut_before) + 1)]
                written.append(entry)
        return written

    def _cut(self, key: bytes, value: bytes) -> list[StateEntry]:
        size = self._part_bytes
        parts = [value[begin : begin + size] for begin in range(0, len(value), size)]
        before, now = self._digests.get(key), [_digest(part) for part in parts]
        manifest = json.dumps({"parts": len(parts), "bytes": len(value), "crc": zlib.crc32(value)}).encode()
        written = [StateEntry(key, None)] if before is None else []
        written.append(StateEntry(_place(key, 0), manifest))
        known = before or []
        written += [
            StateEntry(_place(key, number), part)
            for number, part in enumerate(parts, 1)
            if number > len(known) or known[number - 1] != now[number - 1]
        ]
        written += [StateEntry(_place(key, number), None) for number in range(len(parts) + 1, len(known) + 1)]
        self._digests[key] = now
        return written


def _place(key: bytes, number: int) -> bytes:
    return b"%b|%d|%b" % (_MARK, number, key)


def _digest(part: bytes) -> bytes:
    return hashlib.blake2b(part, digest_size=16).digest()


def _are_parts(keys: Sequence[bytes | None]) -> NDArray[np.bool_]:
    if not isinstance(keys, Packed):
        return np.array([key is not None and key.startswith(_MARK) for key in keys], np.bool_)
    marked = pc.starts_with(keys.column(), pattern=_MARK)
    return np.asarray(marked.to_numpy(zero_copy_only=False), np.bool_)
