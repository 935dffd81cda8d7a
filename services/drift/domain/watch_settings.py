"""What is watched of one model, and the bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.services.drift.domain.features import FeatureColumn
from tidemill.services.drift.domain.loss_verdict import LossSettings
from tidemill.services.drift.domain.recent_labels import MetricBound
from tidemill.shared.kinds.kind import Kind


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What is watched, and the bounds.

    Attributes
    ----------
    loss
        How the loss is watched.
    min_rows
        Vectors a window needs before its features are compared.
    outside
        Share of a window's rows outside of the reference's range that is worth a warning.
    bounds_of_metrics, recent_labels
        Bounds on the metrics of that many last labels.
    shown_only
        Aggregates over all history and parts of the calendar: they move when nothing has happened.
    dates
        Features that are dates.
    shared
        Features that views make, and those of reference streams: rows share the events that they are made of.
    block_ms
        Length of a block of requests in trials of challengers.
    slices
        Columns of the vectors whose values are slices.
    labels_of_class
        Labels that a class needs to be learned, where classes are.
    labels
        So many further ones ask for a training while a model serves; None: their number asks for nothing.
    """

    model: str
    ask: str
    features: tuple[str, ...]
    kind: Kind
    bootstrap_labels: int
    loss: LossSettings = field(default_factory=LossSettings)
    psi: float = 0.2
    missing_shift: float = 0.1
    outside: float = 0.05
    bounds_of_metrics: tuple[MetricBound, ...] = ()
    min_rows: int = 100
    recent_labels: int = 2000
    label_stream: str = ""
    shown_only: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    block_ms: int = 86_400_000
    slices: tuple[str, ...] = ()
    labels_of_class: int = 10
    labels: int | None = None

    @property
    def unbounded(self) -> frozenset[str]:
        """Features without a range, categories or units to be held against: what is new of them comes with time."""
        return self.shown_only | self.dates


def feature_columns(settings: Sequence[WatchSettings], types: Mapping[str, str]) -> dict[str, list[FeatureColumn]]:
    """Columns to summarise by asking stream: those that some model of it reads, in the vector's order."""
    columns: dict[str, list[FeatureColumn]] = {}
    for ask in dict.fromkeys(one.ask for one in settings):
        wanted = {name for one in settings if one.ask == ask for name in one.features}
        columns[ask] = [FeatureColumn(name, "string" if kind == "string" else "double") for name, kind in types.items() if name in wanted]
    return columns
