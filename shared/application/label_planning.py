"""A model's kind, its classes and what its labels are; every mistake is found here, with file and line."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.application.document import Document
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.model import LEARNED, Model
from tidemill.shared.application.plan import LabelPlan, declared_kind
from tidemill.shared.kinds.kind import Kind, words
from tidemill.shared.kinds.label_codes import LabelCodes, UnfitSpellingError
from tidemill.shared.kinds.spelling import MOST_CLASS_BYTES, class_bytes, spelled

Path_ = Sequence[str | int]
_TYPES = {pa.string(): "a text", pa.bool_(): "a truth value", pa.int64(): "a whole number", pa.float64(): "a number"}
_TRUTH = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def check_kind(document: Document, path: Path_, model: Model) -> Kind:
    """Return a model's kind; raises ApplicationError for classes, a time-out or a fallback that do not fit it."""
    if model.classes == LEARNED:
        return _check_learned(document, path, model)
    if model.kind == "multiclass":
        expected = "classes: learned, or the names of two or more classes, in an order that stays (kind: multiclass)"
        if len(model.classes) < 2:
            raise document.error((*path, "classes"), expected, f"only {model.classes[0]}" if model.classes else "no classes")
        if (weighs := class_bytes(model.classes)) > MOST_CLASS_BYTES:
            room = (
                f"classes of at most {MOST_CLASS_BYTES:,} bytes together, names and ten bytes each: every outcome has a probability for each, twice"
            )
            raise document.error((*path, "classes"), room, f"{len(model.classes):,} classes of {weighs:,} bytes")
        for i, name in enumerate(model.classes):
            if name in model.classes[:i]:
                raise document.error((*path, "classes", i), "each class once", f"{name} again")
    elif model.classes:
        raise document.error((*path, "classes"), f"no classes (kind: {model.kind}), or kind: multiclass", f"classes: {words(model.classes)}")
    kind = declared_kind(model)
    if model.label.on_timeout == "negative" and kind.name != "binary":
        out = "unlabelled, or value with a timeout_value"
        raise document.error((*path, "label", "on_timeout"), f"{out} (kind: {kind.name}: there is no negative class)", "negative")
    try:
        kind.default_scores(model.fallback.default)
    except ValueError as error:
        default = model.fallback.default
        raise document.error((*path, "fallback", "default"), str(error), default if isinstance(default, str) else repr(default)) from error
    _check_bounds(document, (*path, "drift"), model, kind)
    return kind


def _check_learned(document: Document, path: Path_, model: Model) -> Kind:
    """Refuse what names a class before anybody knows one."""
    if model.kind != "multiclass":
        raise document.error((*path, "classes"), f"no classes (kind: {model.kind}), or kind: multiclass", f"classes: {LEARNED}")
    out = f"classes that are declared, where something names one (classes: {LEARNED})"
    if model.label.values:
        raise document.error((*path, "label", "values"), f"no values, or {out}", f"{len(model.label.values)} values")
    if model.label.on_timeout != "unlabelled":
        raise document.error((*path, "label", "on_timeout"), f"unlabelled, or {out}", model.label.on_timeout)
    if model.fallback.default is not None:
        expected = f"no default: no class is answered without a model; or {out}"
        raise document.error((*path, "fallback", "default"), expected, repr(model.fallback.default))
    if model.control is not None:
        raise document.error((*path, "control"), f"no control share, or {out}", "control")
    kind = declared_kind(model)
    _check_bounds(document, (*path, "drift"), model, kind)
    return kind


def _check_bounds(document: Document, path: Path_, model: Model, kind: Kind) -> None:
    drift = model.drift
    given = [("floors", name, kind.rising, "more") for name in drift.floors] + [("ceilings", name, kind.falling, "less") for name in drift.ceilings]
    if drift.min_auc is not None:
        given.append(("min_auc", "auc", kind.rising, "more"))
    for key, name, fits, word in given:
        if name not in fits:
            place = (*path, key) if key == "min_auc" else (*path, key, name)
            raise document.error(place, f"metrics of which {word} is better (kind: {kind.name}): {', '.join(fits)}", name)
        if not math.isfinite(bound := drift.ceilings[name] if key == "ceilings" else drift.all_floors[name]):
            raise document.error((*path, key), "a finite bound", str(bound))


def label_plan(
    document: Document, path: Path_, model: Model, columns: pa.Schema, compiled: Callable[[str, pa.Schema, Path_], Expression]
) -> LabelPlan:
    """Compile a model's label over the columns of its stream; raises ApplicationError for what can never be a label.

    What a record says is judged record by record: outcomes makes a dead letter (`invalid_label`) of what is no label.
    """
    label, kind = model.label, declared_kind(model)
    place = (*path, "label", "value")
    given = compiled(label.value, columns, place)
    codes = _codes(document, path, model, kind, given)
    timeout = _timeout(document, path, model, kind)
    plan = LabelPlan(label.stream, label.join, given, label.max_delay, label.on_timeout, timeout, label.corrections, kind, codes)
    if not given.compiled.meta.root_names() and not model.learns_classes:
        constant = given.evaluate(pa.RecordBatch.from_pydict({"_": pa.array([0])}))
        if not plan.labels(constant)[1].all():
            raise document.error(place, f"a label: {plan.expected} (kind: {kind.name})", f"always {constant[0].as_py()!r}")
    return plan


def _codes(document: Document, path: Path_, model: Model, kind: Kind, given: Expression) -> LabelCodes | None:
    """Return which values are labels where that is declared; None where numbers and truth values are labels as they are."""
    values, place = model.label.values, (*path, "label", "value")
    if given.type not in _TYPES:
        raise document.error(place, f"an expression that is {', '.join(_TYPES.values())}", f"{given.sql!r} of type {given.type}")
    if kind.name == "regression" and values:
        raise document.error((*path, "label", "values"), "no values (kind: regression): the label is a number as it comes", f"{len(values)} values")
    if not values and (model.learns_classes or kind.name != "multiclass"):
        if given.type == pa.string() and not model.learns_classes:
            out = ', or texts with their meaning declared, for example values: {"yes": 1, "no": 0}' if kind.name == "binary" else ""
            raise document.error(place, f"a number or a truth value{out} (kind: {kind.name})", f"{given.sql!r} of type string")
        return None
    meanings = {name: float(i) for i, name in enumerate(kind.classes)}
    if values:
        known = meanings if kind.name == "multiclass" else _TRUTH
        for text, meaning in values.items():
            if spelled(meaning) not in known:
                raise document.error((*path, "label", "values", text), f"a meaning: {kind.expected} (kind: {kind.name})", spelled(meaning))
        meanings = {text: known[spelled(meaning)] for text, meaning in values.items()}
    try:
        return LabelCodes.of(meanings, given.type)
    except UnfitSpellingError as error:
        where = (*path, "label", "values", error.text) if values else (*path, "classes", list(meanings).index(error.text))
        expected = f"what {given.sql!r} can give, {_TYPES[given.type]}, each once"
        out = "" if values else "; say which value is which class with label.values"
        raise document.error(where, f"{expected}{out}", repr(error.text)) from error


def _timeout(document: Document, path: Path_, model: Model, kind: Kind) -> float:
    given = model.label.timeout_value
    if model.label.on_timeout != "value":
        return 0.0
    text = spelled(given)
    if kind.name == "multiclass" and text in kind.classes:
        return float(kind.classes.index(text))
    number = _TRUTH.get(text, given) if kind.name == "binary" else given
    if kind.name != "multiclass" and not isinstance(number, str) and kind.is_label([number]).all():
        return float(number)
    raise document.error(
        (*path, "label", "timeout_value"), f"a label: {kind.expected} (kind: {kind.name})", text if kind.name == "multiclass" else repr(given)
    )


def rate_values(plan: LabelPlan) -> dict[str, Expression]:
    """Return what label rates of a declared label are means of: by name in the feature, a number that is null where there is no label.

    Of several classes each has a rate. The expressions' texts name columns and codes, so that rates of other meanings are other views.
    """
    if plan.codes is None:
        return {"": plan.value}
    named = json.dumps(list(zip(plan.codes.given.to_pylist(), plan.codes.labels.to_pylist(), strict=True)))
    if plan.kind.name != "multiclass":
        return {"": replace(plan.value, sql=f"{plan.value.sql} as a label of {named}", type=pa.float64(), quick=lambda batch: _labels(plan, batch))}
    return {
        f"{name}_": replace(plan.value, sql=f"{plan.value.sql} as class {i} of {named}", type=pa.float64(), quick=partial(_is_class, plan, i))
        for i, name in enumerate(_feature_names(plan.kind.classes))
    }


def _labels(plan: LabelPlan, batch: pa.RecordBatch) -> pa.Array:
    labels, good = plan.labels(plan.value.evaluate(batch))
    return pa.array(labels, mask=~good)


def _is_class(plan: LabelPlan, index: int, batch: pa.RecordBatch) -> pa.Array:
    return pc.cast(pc.equal(_labels(plan, batch), float(index)), pa.float64())


def _feature_names(classes: Sequence[str]) -> list[str]:
    """Return what classes are called in names of features: their letters and digits if these tell them apart, else their numbers."""
    names = [re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") for name in classes]
    return names if all(names) and len(set(names)) == len(names) else [f"class{i}" for i in range(len(classes))]
