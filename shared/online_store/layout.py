"""Which features an entity has in the online store, in which order."""

from collections.abc import Sequence

from shared.application.plan import Plan


def entity_features(plan: Plan, entity: str) -> Sequence[str]:
    """Return the features of every view of an entity, in the order of the application file; KeyError when it has no view."""
    names = [aggregate.feature for view in plan.views if view.entity == entity for aggregate in view.aggregates]
    if not names:
        known = sorted({view.entity for view in plan.views})
        raise KeyError(f"expected an entity with views ({', '.join(known)}), got {entity}")
    return names
