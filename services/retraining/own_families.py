"""Estimators of the application's own: where they are found, and whether they can be trained and served."""

import sys
from pathlib import Path

from tidemill.shared.application.families import is_own
from tidemill.shared.application.plan import Plan


def find_own_modules(folder: Path) -> None:
    """Look for modules in the application's folder from now on."""
    if str(folder.absolute()) not in sys.path:
        sys.path.append(str(folder.absolute()))


def forget_own_modules(folder: Path) -> None:
    """Look for modules in a folder no longer, and forget those that were found there: another application's may have the same names."""
    root = folder.absolute()
    sys.path[:] = [place for place in sys.path if not Path(place).is_relative_to(root)]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).is_relative_to(root):
            del sys.modules[name]


def check_own_families(plan: Plan, folder: Path) -> None:
    """Try each ``module:factory`` that a model's training names on a few drawn rows; from now on its modules are found in the application's folder.

    Raises
    ------
    FamilyError
        One cannot be trained or served: bad configuration, which stops the process before the first record.
    """
    own = [(family, model.kind) for model in plan.models.values() for family in model.settings.training.families if is_own(family)]
    if not own:
        return
    # Loaded when needed: the libraries of estimators take seconds.
    from tidemill.services.retraining.domain.families.own_estimator import OwnEstimator

    find_own_modules(folder)
    for family, kind in own:
        OwnEstimator(family).check(kind)
