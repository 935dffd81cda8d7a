"""What a gate says."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Whether a candidate passed, why (not), and the figures.

    Attributes
    ----------
    reason
        Of a refusal: which gate, what was expected, what was found, and what could have been seen.
    details
        What no single number holds: the slices.
    spent
        Instant and level of the look, where it spent one.
    """

    passed: bool
    reason: str
    figures: Mapping[str, float]
    details: Mapping[str, str] = field(default_factory=dict)
    spent: tuple[tuple[int, float], ...] = ()
