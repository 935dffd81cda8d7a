"""What health says of a model's window that is over."""

from collections.abc import Mapping

from tidemill.services.drift.domain.findings import Coordinates, HealthRecord
from tidemill.services.drift.domain.shifts import Shift
from tidemill.services.drift.domain.watch import ModelWatch

# Slices and other figures need less than the rest of a record at Kafka's default limit.
_FIGURES_BYTES, _NUMBER_BYTES = 512 << 10, 12


def health_of(
    watch: ModelWatch, at: Coordinates, window_ms: tuple[int, int], shifts: Mapping[str, Shift], missing: Mapping[str, float]
) -> HealthRecord:
    """Return the record of a window: the figures of its answers and labels, how far its features have shifted, and its slices.

    Parameters
    ----------
    window_ms
        Begin and end of the window.
    shifts, missing
        Distances of the features from the champion's reference, and their shares of missing values on the day; empty without a champion.
    """
    figures = watch.window.figures(watch.settings.kind)
    if shifts:
        severities = watch.shifts.severities
        figures |= shift_figures({name: one.psi for name, one in shifts.items()}, severities, watch.shifts.ranked)
        if severities:
            figures["shift_max"] = max(severities.values())
        figures["psi_max"] = max(one.psi for one in shifts.values())
        figures["missing_max"] = max(missing.values())
    figures |= watch.answers.figures()
    served = watch.window.served_by() or watch.version or "default"
    return HealthRecord(watch.settings.model, at, *window_ms, served, figures, watch.slices.figures if watch.slices is not None else ())


def shift_figures(psi: Mapping[str, float], severities: Mapping[str, float], ranked: Mapping[str, float]) -> dict[str, float]:
    """Return how far features have shifted, by figure; of thousands of features those that have shifted farthest, as many as fit a record.

    >>> shift_figures({"a": 0.5}, {"a": 2.0}, {})
    {'psi__a': 0.5, 'shift__a': 2.0}
    """
    kinds = {"psi": psi, "shift": severities, "ranked": ranked}
    left = _FIGURES_BYTES
    chosen = set[str]()
    for name in sorted(psi.keys() | severities.keys() | ranked.keys(), key=lambda name: (-psi.get(name, 0.0), name)):
        left -= sum(len(f"{kind}__{name}".encode()) + _NUMBER_BYTES for kind, of in kinds.items() if name in of)
        if left < 0:
            break
        chosen.add(name)
    return {f"{kind}__{name}": value for kind, of in kinds.items() for name, value in of.items() if name in chosen}
