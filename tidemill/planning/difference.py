"""What a changed application changes: the words that a plan is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Section = Literal["application", "streams", "entities", "views", "models", "alerts"]
Action = Literal["added", "changed", "removed"]


@dataclass(frozen=True, slots=True)
class ApplicationChange:
    """One part of the application that is there, is gone, or says something else.

    Attributes
    ----------
    details
        Keys of the file with what they said and say.
    effects
        What follows from it, in words.
    """

    section: Section
    name: str
    action: Action
    details: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a running application cannot become.

    Attributes
    ----------
    code
        Names the rule.
    where
        The key of the file.
    why, way_out
        What would go wrong, and what to do instead.
    """

    code: str
    where: str
    why: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}; {self.way_out}"


@dataclass(frozen=True, slots=True)
class ChangedColumns:
    """Columns of the vector that the change touches; changed ones mean something else under the same name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def to_backfill(self) -> tuple[str, ...]:
        """Columns whose values are computed over the journal so far."""
        return (*self.added, *self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    """Two applications compared.

    Attributes
    ----------
    warnings
        What can be applied and may surprise.
    topics
        To be created.
    restarts
        What is started again: stages, ``gateway``, ``alerts``.
    """

    changes: Sequence[ApplicationChange] = ()
    refusals: Sequence[Refusal] = ()
    warnings: Sequence[str] = ()
    columns: ChangedColumns = field(default_factory=ChangedColumns)
    topics: Sequence[str] = ()
    restarts: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.changes

    @property
    def can_be_applied(self) -> bool:
        """Whether nothing of it is refused."""
        return not self.refusals
