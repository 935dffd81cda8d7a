"""An application's plan with the classes that its models have learned."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tidemill.shared.application.plan import Plan
from tidemill.shared.models.deployments import Lifecycles


def learned_plan(plan: Plan, deployments: Iterable[Mapping[str, Any]]) -> Plan:
    """Return the plan with every class that some version knows, for whoever looks at a run afterwards.

    A stage that works on a run reads the classes of a version from the version itself, or from its answers.

    Parameters
    ----------
    deployments
        The lifecycle log.
    """
    if not any(model.learns_classes for model in plan.models.values()):
        return plan
    lifecycles = Lifecycles().follow(dict(event) for event in deployments)
    return replace(plan, models={name: model.with_classes(lifecycles.of(name).classes) for name, model in plan.models.items()})
