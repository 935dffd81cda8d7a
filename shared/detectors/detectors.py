"""Makes detectors by name."""

from tidemill.shared.detectors.catalogue import CATALOGUE, DetectorChoice
from tidemill.shared.detectors.cusum_mixture import CusumMixture
from tidemill.shared.detectors.detector import Detector
from tidemill.shared.detectors.river_adwin import RiverAdwin
from tidemill.shared.detectors.river_plain import RiverPlain


def detector(choice: DetectorChoice) -> Detector:
    """Make the detector that was chosen, with the defaults of the catalogue for what is not set.

    Examples
    --------
    >>> detector(DetectorChoice("adwin", {"delta": 0.01})).name
    'adwin'
    """
    known = CATALOGUE[choice.name]
    parameters = {name: one.default for name, one in known.parameters.items()} | dict(choice.parameters)
    for name, one in known.parameters.items():
        if one.whole:
            parameters[name] = int(parameters[name])
    if choice.name == "cusum_mixture":
        return CusumMixture(parameters["run_length"], int(parameters["baseline"]))
    if choice.name == "adwin":
        return RiverAdwin(parameters["delta"])
    return RiverPlain(choice.name, known.bits, parameters)
