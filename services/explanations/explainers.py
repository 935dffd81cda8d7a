"""The versions that answer, loaded to be explained."""

import logging
from collections import OrderedDict

from tidemill.shared.models.artifacts import ArtifactError, ArtifactStore
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.stored_versions import UnknownVersionError, artifact_of

_KEPT = 4
_LOOK_AGAIN_MS = 60_000
_LOG = logging.getLogger(__name__)


class Explainers:
    """Explainers by model and version: of each model the last few that were asked for.

    A version that the store does not have, or that is damaged, is looked for again after a minute: its requests are told as not explained.

    Parameters
    ----------
    models
        How many models are explained.
    """

    def __init__(self, artifacts: ArtifactStore, models: int) -> None:
        self._artifacts, self._most = artifacts, _KEPT * max(1, models)
        self._loaded: OrderedDict[tuple[str, str], Explainer] = OrderedDict()
        self._missing_until_ms: dict[tuple[str, str], int] = {}

    def of(self, model: str, version: str, elapsed_ms: int) -> Explainer | None:
        """Return a version's explainer, None where it is not to be had; raises TransientError when the store does not answer."""
        name = (model, version)
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return self._loaded[name]
        if elapsed_ms < self._missing_until_ms.get(name, elapsed_ms):
            return None
        try:
            explainer = Explainer(artifact_of(self._artifacts, model, version))
        except (ArtifactError, UnknownVersionError) as problem:
            _LOG.warning("a version cannot be explained", extra={"model": model, "version": version, "error": str(problem)})
            self._missing_until_ms[name] = elapsed_ms + _LOOK_AGAIN_MS
            return None
        self._missing_until_ms.pop(name, None)
        self._loaded[name] = explainer
        while len(self._loaded) > self._most:
            self._loaded.popitem(last=False)
        return explainer
