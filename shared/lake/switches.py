"""Where served vectors begin to follow another version of the views, and which of them mean what the present one means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.lake.names import VIEW_SWITCHES
from tidemill.shared.lake.tables import Lake, milliseconds

SWITCHES = pa.schema(
    [
        ("journal_partition", pa.int32()),
        ("journal_offset", pa.int64()),
        ("journal_time", pa.timestamp("ms")),
        ("view_version", pa.string()),
        ("previous", pa.string()),
        ("features", pa.string()),
        ("application_hash", pa.string()),
        ("code_version", pa.string()),
        ("log_offset", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class ViewSwitch:
    """Vectors of a journal partition from `journal_offset` on are of `view_version`.

    Attributes
    ----------
    features
        Digest of the definition of each column.
    """

    journal_partition: int
    journal_offset: int
    journal_time_ms: int
    view_version: str
    previous: str
    features: Mapping[str, str]


def view_switches(lake: Lake) -> list[ViewSwitch]:
    """Return all marks, by partition, each in the order they were made; none from an archive older than them."""
    if not lake.exists(VIEW_SWITCHES):
        return []
    rows = milliseconds(lake.dataset(VIEW_SWITCHES).to_table()).to_pylist()
    places = [(row["journal_partition"], row["log_offset"]) for row in rows]
    made = [
        ViewSwitch(
            row["journal_partition"], row["journal_offset"], row["journal_time"], row["view_version"], row["previous"], json.loads(row["features"])
        )
        for row in rows
    ]
    return [switch for _, switch in sorted(zip(places, made, strict=True), key=lambda pair: pair[0])]


def last_switches(lake: Lake) -> dict[int, ViewSwitch]:
    """Return the mark of each partition from which on vectors are of the last version: applications that kept the views may have followed it."""
    switches: dict[int, ViewSwitch] = {}
    for switch in view_switches(lake):
        before = switches.get(switch.journal_partition)
        if before is None or before.view_version != switch.view_version:
            switches[switch.journal_partition] = switch
    return switches


def of_the_same_meaning(
    switches: Sequence[ViewSwitch], features: Mapping[str, str], partitions: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say which vectors were served while every one of these columns was defined as it is now.

    Parameters
    ----------
    features
        Digest of the present definition by column; only the columns that matter.
    partitions, offsets : int64 arrays, shape (n,)
        Journal coordinates. What stands before a partition's first mark is taken to be of that one's meaning if the mark follows no other
        version, else of an unknown one.

    Returns
    -------
    bool array, shape (n,)
    """
    same = np.ones(len(offsets), np.bool_)
    for partition in np.unique(partitions).tolist():
        own = [switch for switch in switches if switch.journal_partition == partition]
        if not own:
            continue
        agrees = [all(switch.features.get(name) == digest for name, digest in features.items()) for switch in own]
        begins = np.array([switch.journal_offset for switch in own], np.int64)
        rows = partitions == partition
        version = np.searchsorted(begins, offsets[rows], side="right") - 1
        before_all = agrees[0] and not own[0].previous
        same[rows] = np.where(version < 0, before_all, np.array(agrees)[np.maximum(version, 0)])
    return same
