"""When a model's requests are answered by its fallback because they have waited too long."""

from collections.abc import Iterable, Mapping

from tidemill.shared.application.plan import ModelPlan

LATENCY = "latency"
_BACK = 0.5


class LatencySwitch:
    """Switches the models of one partition to their fallback while requests wait longer than declared. Pure.

    A model goes to its fallback in the step in which a request has waited longer than its limit, and comes back in the first one in which none has
    waited longer than half of it: between the two nothing changes, so that it does not flicker at the limit. Not deterministic by nature (a wait is
    processing time); every prediction says by its reason which of the two answered.

    Parameters
    ----------
    models
        Those without a limit never switch.
    """

    def __init__(self, models: Iterable[ModelPlan]) -> None:
        declared = {model.name: model.settings.fallback.latency_limit for model in models}
        self._limits_ms = {name: limit for name, limit in declared.items() if limit is not None}
        self._away: set[str] = set()

    def observe(self, longest_wait_ms: int) -> Mapping[str, bool]:
        """Take the longest wait of a step's requests, in milliseconds; returns the models that switch, and whether it is to the fallback."""
        switched = {}
        for name, limit_ms in self._limits_ms.items():
            away = longest_wait_ms > (limit_ms * _BACK if name in self._away else limit_ms)
            if away != (name in self._away):
                switched[name] = away
        self._away = {name for name in self._limits_ms if switched.get(name, name in self._away)}
        return switched

    def answers_with_fallback(self, model: str) -> bool:
        """Whether a model's requests are answered by its fallback at the moment."""
        return model in self._away
