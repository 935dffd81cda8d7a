"""Estimators of the application's own: where they are found, and whether they can be trained and served."""

import sys
from pathlib import Path

from tidemill.shared.application.families import FAMILIES, is_own, supports
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass


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
    own = [(family, _probed(model)) for model in plan.models.values() for family in model.settings.training.families if is_own(family)]
    if not own:
        return
    # Loaded when needed: the libraries of estimators take seconds.
    from tidemill.services.retraining.domain.families.own_estimator import OwnEstimator

    find_own_modules(folder)
    for family, kind in own:
        OwnEstimator(family).check(kind)


def check_explained_families(plan: Plan, folder: Path) -> None:
    """Refuse `explain` where an estimator of the application's own gives models that nobody can take apart: each prediction would only be told so.

    A service does not ask this: what runs goes on, and says of each such prediction that it is not explained.

    Raises
    ------
    FamilyError
        Not even a model of a few drawn rows can be explained exactly.
    """
    asking = [model for model in plan.models.values() if model.settings.explain is not None]
    own = [(model, family) for model in asking for family in model.settings.training.families if is_own(family)]
    if not own:
        return
    import numpy as np
    import onnx

    from tidemill.services.retraining.domain.families.family import FamilyError
    from tidemill.services.retraining.domain.families.own_estimator import PROBE_COLUMNS, OwnEstimator
    from tidemill.shared.models.additive_parts import parts_of
    from tidemill.shared.models.forest import Forest

    find_own_modules(folder)
    for model, family in own:
        kind = _probed(model)
        graph = onnx.load_from_string(OwnEstimator(family).check(kind)).graph
        if parts_of(graph, Forest.from_graph(graph), len(kind.classes), np.zeros((1, PROBE_COLUMNS), np.float32)) is None:
            able = ", ".join(name for name in FAMILIES if supports(name, model.kind.name))
            nodes = ", ".join(node.op_type for node in graph.node)
            raise FamilyError(
                f"models.{model.name}.explain: expected families whose models can be taken apart ({able}), found {family}, which becomes a graph of "
                f"{nodes}: each prediction would be told as not explained (graph). Leave out explain and ask `tidemill explain ID`, or {family}"
            )


def _probed(model: ModelPlan) -> Kind:
    """Return the kind that a family is tried with: as many classes as it takes, where nobody knows them yet."""
    return Multiclass(("first", "second", "third")) if model.learns_classes else model.kind
