"""What changes of an application's models: retrained, only judged by other limits, watched otherwise, or not possible under the same name."""

from tidemill.planning.difference import ApplicationChange, ChangedColumns, Refusal
from tidemill.planning.settings_diff import changed_keys
from tidemill.shared.application.plan import Plan

_ANOTHER_NAME = "declare a model of another name beside it, and remove this one when the new one serves"
_FIXED = {
    "kind": ("model_kind", "its predictions, outcomes and champions are of the present kind"),
    "classes": ("model_classes", "scores and labels are numbered by the present classes"),
    "ask": ("model_ask", "its requests are events of the present stream"),
    "label": ("model_label", "outcomes so far, and what it was judged on, follow the present label"),
}
_EFFECTS = {
    "features": "retrained: the next training reads these features; the champion goes on with its own",
    "training": "retrained: the next training searches by these settings",
    "gate": "re-gated: the next candidate is judged by these limits; the champion stays",
    "stages": "the next candidate goes through these stages",
    "retraining": "trainings are asked for by these rules from now on",
    "drift": "its detectors are made again from the outcomes, with these bounds",
    "fallback": "answers without a model follow it from the switch on",
    "control": "requests are marked by it from the switch on; earlier answers keep the propensity that they were given",
    "threshold": "the next training begins with it; the champion keeps its own",
    "explain": "its predictions are explained by it from the switch on",
    "slices": "the next candidate is judged on these slices",
}


def model_changes(old: Plan, new: Plan, columns: ChangedColumns) -> tuple[list[ApplicationChange], list[Refusal]]:
    """Compare the models of two applications."""
    before, after = old.application.models, new.application.models
    changes: list[ApplicationChange] = []
    refused: list[Refusal] = []
    for name in before:
        if name not in after:
            gone = "its requests are not answered any more from the switch on; its lifecycle ends with the event `retired`"
            changes.append(ApplicationChange("models", name, "removed", (), (gone,)))
    present = {feature.name for feature in new.features}
    for name, model in after.items():
        if name not in before:
            labels = model.retraining.bootstrap_labels
            answers = "its requests are answered by the fallback until its first model has passed its gate"
            first = f"the first training is asked for after {labels:,} labels of its requests"
            changes.append(ApplicationChange("models", name, "added", (), (answers, first)))
            continue
        one, other = (given.model_dump(mode="json", by_alias=True) for given in (before[name], model))
        for key, (code, why) in _FIXED.items():
            if one[key] != other[key]:
                refused.append(Refusal(code, f"models.{name}.{key}", f"it cannot become another one: {why}", _ANOTHER_NAME))
        lost = [column for column in old.models[name].features if column not in present]
        if lost:
            refused.append(
                Refusal(
                    "column_leaves",
                    f"models.{name}.features",
                    f"no model would read {', '.join(lost)}, so the vectors would not have it any more, which the champion of {name} reads",
                    _ANOTHER_NAME,
                )
            )
        details = changed_keys(one, other)
        keys = dict.fromkeys(key for key in (*one, *other) if one.get(key) != other.get(key))
        effects = tuple(_EFFECTS[key] for key in keys if key in _EFFECTS)
        moved = [column for column in new.models[name].features if column in columns.to_backfill and column in old.models[name].features]
        if moved:
            effects = (*effects, f"retrained: {', '.join(moved)} mean something else from the switch on")
        if old.models[name].features != new.models[name].features and "features" not in keys:
            effects = (*effects, "retrained: its patterns name other features than before")
        if details or effects:
            changes.append(ApplicationChange("models", name, "changed", tuple(details), effects))
    return changes, refused
