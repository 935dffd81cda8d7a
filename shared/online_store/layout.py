"""Which features an entity has in the online store, in which order, and the name of that agreement."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.shared.application.plan import Plan, ViewPlan

_FORMAT = 1
_DIGEST_CHARACTERS = 16


class UnknownEntityError(LookupError):
    """The application keeps no online features about such an entity: names those it does."""

    def __init__(self, entity: str, known: Sequence[str]) -> None:
        self.entity = entity
        self.known = tuple(known)
        super().__init__(f"expected an entity with views ({', '.join(sorted(known)) or 'the application has none'}), got {entity}")


@dataclass(frozen=True, slots=True)
class EntityLayout:
    """How the features of one kind of entity are packed.

    Attributes
    ----------
    features
        Every feature of every view of the entity, in the order of the application file.
    ttl_ms
        Values not written again for so long are expired; None: never.
    digest
        Names the layout: features, their order and what they mean. It is part of every key, so a reader never sees a value of another
        layout, and applications of different versions can write and read side by side.
    """

    entity: str
    features: tuple[str, ...]
    ttl_ms: int | None
    digest: str


def entity_layouts(plan: Plan) -> Mapping[str, EntityLayout]:
    """Return the layout of every entity that has views.

    Views over all records belong to no entity; their features come with every vector and are not in the store.
    """
    entities = dict.fromkeys(view.entity for view in plan.views if view.entity is not None)
    return {entity: _layout(plan, entity) for entity in entities}


def layout_of(layouts: Mapping[str, EntityLayout], entity: str) -> EntityLayout:
    """Return an entity's layout.

    Raises
    ------
    UnknownEntityError
        It has none.
    """
    layout = layouts.get(entity)
    if layout is None:
        raise UnknownEntityError(entity, tuple(layouts))
    return layout


def _layout(plan: Plan, entity: str) -> EntityLayout:
    views = [view for view in plan.views if view.entity == entity]
    features = tuple(aggregate.feature for view in views for aggregate in view.aggregates)
    application = plan.application
    sources = dict.fromkeys(view.source for view in views)
    meaning = {
        "format": _FORMAT,
        "features": features,
        # Without defaults: an option that a later release adds does not make another layout of the same application.
        "entity": _entity_meaning(plan, entity, views),
        "views": [_view_meaning(plan, view) for view in views],
        "derived": {source: application.streams[source].derive for source in sources},
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return EntityLayout(entity, features, views[0].ttl_ms, digest)


def _entity_meaning(plan: Plan, entity: str, views: Sequence[ViewPlan]) -> object:
    declared = plan.application.entities.get(entity)
    return {"from": dict(views[0].entity_columns)} if declared is None else declared.model_dump(mode="json", exclude_defaults=True)


def _view_meaning(plan: Plan, view: ViewPlan) -> object:
    """Return what a view means: as declared, or of label rates, which are declared with their model, as planned."""
    declared = plan.application.views.get(view.name)
    if declared is None:
        return [repr(view.aggregates), repr(view.join)]
    return declared.model_dump(mode="json", exclude_defaults=True)
