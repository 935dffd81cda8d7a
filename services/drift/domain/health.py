"""What health says of a model's window that is over."""

from collections.abc import Mapping

from tidemill.services.drift.domain.findings import Coordinates, HealthRecord
from tidemill.services.drift.domain.shifts import Shift
from tidemill.services.drift.domain.watch import ModelWatch


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
        figures |= {f"psi__{name}": one.psi for name, one in shifts.items()}
        figures |= {f"shift__{name}": value for name, value in severities.items()}
        figures |= {f"ranked__{name}": value for name, value in watch.shifts.ranked.items()}
        if severities:
            figures["shift_max"] = max(severities.values())
        figures["psi_max"] = max(one.psi for one in shifts.values())
        figures["missing_max"] = max(missing.values())
    figures |= watch.answers.figures()
    served = watch.window.served_by() or watch.version or "default"
    return HealthRecord(watch.settings.model, at, *window_ms, served, figures, watch.slices.figures if watch.slices is not None else ())
