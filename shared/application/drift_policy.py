"""Which detectors watch a model, and their bounds, as the application's author writes them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from tidemill.shared.application.values import Frozen
from tidemill.shared.detectors.catalogue import DEFAULT as DETECTORS
from tidemill.shared.detectors.catalogue import read_choice, read_choices


def _detector(given: Any) -> Any:  # whatever stands in the file
    if isinstance(given, str | Mapping):
        try:
            read_choice(given)
        except ValueError as problem:
            raise ValueError(str(problem).removeprefix("expected ")) from None
    return given


Detector = Annotated[str | dict[str, dict[str, float] | None], BeforeValidator(_detector)]


class DriftPolicy(Frozen):
    """Detectors and their bounds.

    Attributes
    ----------
    detectors
        On labels that do not cluster by day: names, or names with parameters.
    clusters
        Whether labels cluster by day: as the days tell, always, never.
    """

    detectors: tuple[Detector, ...] = DETECTORS
    clusters: Literal["auto", "by_day", "none"] = "auto"
    false_alarm_days: int = Field(default=3650, ge=10)
    tolerance: float = Field(default=0.02, ge=0, le=1)
    psi: float = Field(default=0.2, gt=0)
    missing_shift: float = Field(default=0.1, gt=0, le=1)
    floors: dict[str, float] = Field(default={})
    ceilings: dict[str, float] = Field(default={})
    min_auc: float | None = None

    @property
    def all_floors(self) -> dict[str, float]:
        """Floors by metric; `min_auc` is one."""
        return ({} if self.min_auc is None else {"auc": self.min_auc}) | self.floors

    @field_validator("detectors")
    @classmethod
    def _once(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        read_choices(given)
        return given
