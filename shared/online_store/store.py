"""The online store's port: what a writer may rely on and a reader gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.online_store.layout import EntityLayout
from tidemill.shared.online_store.rows import FeatureRows


class OnlineStoreUnavailableError(RuntimeError):
    """The store does not answer, or refuses to work just now: names the address and the cause. Nothing is lost by trying again."""


class CorruptValueError(RuntimeError):
    """A value is not of the layout in whose name it lies: somebody else writes under this application's keys (crash)."""


@dataclass(frozen=True, slots=True)
class FeatureSlice:
    """Features of some entities of one kind, all as of one point of the journal.

    Attributes
    ----------
    partition
        Journal partition whose task writes.
    values : float64 array, shape (n, d)
        In the layout's order; NaN where missing.
    journal_offset, journal_time_ms
        The values hold every record below that offset and are as of that time.
    generation
        What the writer takes for the store's generation; empty when it knows none.
    completes
        With this slice every entity of the task is in the store, as of `journal_offset`.
    """

    partition: int
    keys: Sequence[str]
    values: NDArray[np.float64]
    journal_offset: int
    journal_time_ms: int
    generation: str = ""
    completes: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a slice.

    Attributes
    ----------
    written
        Values written; the others were older than what the store has.
    generation
        The store's generation now. Another one than the writer's: the store was emptied since (or never filled), and the writer has to
        write everything again.
    """

    written: int
    generation: str


@dataclass(frozen=True, slots=True)
class FillState:
    """How far a task had filled the store: its generation, and the journal offset up to which everything is in it (-1: it is being filled)."""

    generation: str
    complete_to: int


class OnlineStore(Protocol):
    """The latest features of every entity, for readers outside the pipeline.

    Values are guarded: one that follows from an earlier point of the journal never replaces one of a later. Under a layout's digest and
    a partition the store keeps a *generation*, a random id that is lost with the data and so tells a writer that they are gone.
    """

    @property
    def layouts(self) -> Mapping[str, EntityLayout]:
        """The layout of every entity."""
        ...

    def write(self, entity: str, part: FeatureSlice) -> Receipt:
        """Write the values that are not older than what is there; OnlineStoreUnavailableError."""
        ...

    def standing(self, entity: str, partition: int) -> FillState | None:
        """Return how far a task had filled the store; None when it knows nothing of it; OnlineStoreUnavailableError."""
        ...

    def read_features(self, entity: str, keys: Sequence[str], now_ms: int | None = None) -> FeatureRows:
        """Return one row per key.

        Parameters
        ----------
        now_ms
            The reader's time, for ages and expiry; the wall clock by default.

        Raises
        ------
        UnknownEntityError
            The application has no views of it.
        OnlineStoreUnavailableError
            Try again.
        """
        ...

    def ping(self) -> bool:
        """Tell whether the store answers."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...
