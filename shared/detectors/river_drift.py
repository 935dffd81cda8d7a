"""River's detectors, without the second and a half that `import river.drift` takes for what no detector of the catalogue uses.

River's package of detectors imports its example data sets, those `river.stream`, and that scikit-learn, SQLAlchemy and pandas; its KSWIN imports
`scipy.stats`. Both are registered here to be loaded at their first use, as they would be by the import (`importlib.util.LazyLoader`).
"""

import importlib.util
import sys

__all__ = ["ADWIN", "BinaryDriftAndWarningDetector", "DriftDetector", "binary", "drift"]


def _load_at_first_use(package: str, name: str) -> None:
    """Register a module that is not there yet; whoever looks at one of its names loads it."""
    full = f"{package}.{name}"
    if full in sys.modules:
        return
    spec = importlib.util.find_spec(full)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"expected the module {full}, which river's detectors import", name=full)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    # `from package import name` takes the attribute; an import by the full name would look into the module and load it.
    setattr(sys.modules[package], name, module)


_load_at_first_use("river", "stream")
_load_at_first_use("scipy", "stats")

from river import drift  # noqa: E402 - after what it shall not load
from river.base import BinaryDriftAndWarningDetector, DriftDetector  # noqa: E402
from river.drift import ADWIN, binary  # noqa: E402
