"""The difference of two applications; pure."""

from collections.abc import Mapping
from typing import Any

from tidemill.planning.difference import ApplicationChange, ChangedColumns, Difference, Refusal, Section
from tidemill.planning.model_changes import model_changes
from tidemill.planning.settings_diff import changed_keys
from tidemill.planning.stream_changes import stream_changes
from tidemill.shared.application.model import Application
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.topics import STAGES
from tidemill.shared.application.view_version import feature_versions

_NEW_RUN = "start a run of its own (`tidemill up`, with another `app` name or folder) and let it read the past with --history"


def compare(old: Plan, new: Plan) -> Difference:
    """Return what changes from one application to another, and what of it a run cannot take over.

    The same application gives an empty difference, however its files are formatted or split.
    """
    before, after = old.application, new.application
    columns = _columns(old, new)
    changes, refusals = _application(before, after)
    for part in (stream_changes(old, new), _entities(before, after), _views(old, new, columns), model_changes(old, new, columns)):
        changes, refusals = [*changes, *part[0]], [*refusals, *part[1]]
    refusals += _column_types(old, new)
    told = changed_keys(_dump(before.alerts), _dump(after.alerts))
    stages = list(STAGES) if changes or old.application_hash != new.application_hash else []
    if stages and not changes:
        changes = [ApplicationChange("application", "order", "changed", (), ("streams, views or features stand in another order",))]
    if told:
        changes = [*changes, ApplicationChange("alerts", "rules", "changed", tuple(told))]
    restarts = [*stages, *(["gateway"] if stages else []), *(["alerts"] if stages or told else [])]
    topics = [topic for topic in new.topics.raw if topic not in old.topics.raw]
    return Difference(tuple(changes), tuple(refusals), _warnings(old, new, columns), columns, tuple(topics), tuple(restarts))


def _application(before: Application, after: Application) -> tuple[list[ApplicationChange], list[Refusal]]:
    changes: list[ApplicationChange] = []
    refused: list[Refusal] = []
    fixed = {
        "app": ("topics, checkpoints and the archive are named after it", _NEW_RUN),
        "partition_by": ("the journal's records lie where the present key has put them", _NEW_RUN),
        "partitions": ("keys would be found on other partitions than those that hold their state", _NEW_RUN),
        "topology": ("other processes would own the same partitions", "stop the run and start it with `tidemill up`, which goes on where it was"),
    }
    for name in (*fixed, "owner"):
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            changes.append(ApplicationChange("application", name, "changed", (f"{name}: {one} -> {other}",)))
            if name in fixed:
                refused.append(Refusal(name, name, f"{one} cannot become {other} in a run: {fixed[name][0]}", fixed[name][1]))
    return changes, refused


def _entities(before: Application, after: Application) -> tuple[list[ApplicationChange], list[Refusal]]:
    changes = _section("entities", _dumps(before.entities), _dumps(after.entities))
    refused = []
    for name in before.entities.keys() & after.entities.keys():
        one, other = before.entities[name].columns, after.entities[name].columns
        for stream in sorted(one.keys() & other.keys()):
            if one[stream] != other[stream]:
                refused.append(
                    Refusal(
                        "entity_key",
                        f"entities.{name}.from.{stream}",
                        f"the entities of {stream} are named by {one[stream]}, and rows in the online store are kept under those names",
                        f"declare another entity that is named by {other[stream]}, move the views to it, and remove {name} when nothing reads it",
                    )
                )
    return changes, refused


def _views(old: Plan, new: Plan, columns: ChangedColumns) -> tuple[list[ApplicationChange], list[Refusal]]:
    sources = {one.name: one.source for one in (*old.features, *new.features) if one.origin == "view"}
    changes = []
    for change in _section("views", _dumps(old.application.views), _dumps(new.application.views)):
        come, moved = ([name for name in some if _belongs(sources.get(name, ""), change.name)] for some in (columns.added, columns.changed))
        effects = []
        if change.action != "removed":
            effects.append("a new version: its state is made again from the whole journal, and vectors follow it from one marked offset on")
        if come:
            effects.append(f"new columns: {', '.join(come)}")
        if moved:
            effects.append(f"columns of another meaning from there on: {', '.join(moved)}")
        changes.append(ApplicationChange("views", change.name, change.action, change.details, tuple(effects)))
    return changes, []


def _belongs(source: str, view: str) -> bool:
    """Rates of a label are a view for each column."""
    return source == view or source.startswith(f"{view}__")


def _columns(old: Plan, new: Plan) -> ChangedColumns:
    before, after = feature_versions(old), feature_versions(new)
    return ChangedColumns(
        tuple(name for name in after if name not in before),
        tuple(name for name in after if name in before and before[name] != after[name]),
        tuple(name for name in before if name not in after),
    )


def _column_types(old: Plan, new: Plan) -> list[Refusal]:
    before = {one.name: one.type for one in old.features}
    return [
        Refusal(
            "column_type",
            f"features.{one.name}",
            f"the column is a {before[one.name]} in the vectors so far and would be a {one.type}, which no reader of both can read",
            "give the new column another name",
        )
        for one in new.features
        if before.get(one.name, one.type) != one.type
    ]


def _warnings(old: Plan, new: Plan, columns: ChangedColumns) -> tuple[str, ...]:
    warnings = []
    for name in old.models.keys() & new.models.keys():
        moved = [column for column in old.models[name].features if column in columns.changed]
        if moved:
            warnings.append(
                f"models.{name}: its champion goes on with {', '.join(moved)} in the new meaning until a model that has learned from it is promoted;"
                " trainings learn from the vectors since the switch"
            )
    return tuple(sorted(warnings))


def _section(section: Section, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[ApplicationChange]:
    changes = [ApplicationChange(section, name, "removed") for name in before if name not in after]
    for name in after:
        if name not in before:
            changes.append(ApplicationChange(section, name, "added"))
        elif details := changed_keys(before[name], after[name]):
            changes.append(ApplicationChange(section, name, "changed", tuple(details)))
    return changes


def _dump(model: Any) -> Any:  # any part of the application
    return model.model_dump(mode="json", by_alias=True)


def _dumps(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _dump(part) for name, part in parts.items()}
