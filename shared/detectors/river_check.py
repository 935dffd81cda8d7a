"""Whether the installed river keeps the state of its detectors as the checkpoint expects."""

from importlib.metadata import version

import numpy as np

from tidemill.shared.detectors.catalogue import CATALOGUE, DetectorChoice
from tidemill.shared.detectors.cusum_mixture import CusumMixture
from tidemill.shared.detectors.detectors import detector

KNOWN_RIVER = "0.26.1"


def check_river() -> None:
    """Try on a drawn stream that a detector of river with a saved state goes on as one that was never saved.

    Raises
    ------
    RuntimeError
        It does not: a restart would not go on where it stopped. The message says what to install.
    """
    errors = (np.random.default_rng(7).random(900) < np.repeat([0.1, 0.7], 450)).astype(np.float64).tolist()
    for name in CATALOGUE:
        if name == CusumMixture.name:
            continue
        try:
            whole, first, second = (detector(DetectorChoice(name)) for _ in range(3))
            expected = [change.row for change in whole.update(errors)]
            alarms = [change.row for change in first.update(errors[:463])]
            second.load(first.snapshot())
            alarms += [change.row + 463 for change in second.update(errors[463:])]
        except (AttributeError, TypeError, ValueError) as problem:
            raise _other_river(f"{name}: {problem}") from problem
        if alarms != expected or second.snapshot() != whole.snapshot():
            raise _other_river(f"{name} with a saved state goes on otherwise than one without")


def _other_river(what: str) -> RuntimeError:
    installed = version("river")
    return RuntimeError(
        f"expected river {KNOWN_RIVER}, whose detectors give and take their state as numbers and bytes, found river {installed}: {what}"
    )
