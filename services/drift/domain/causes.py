"""What an incident is likely to come from, in words."""

from collections.abc import Sequence

_BROKEN = {
    "units": "comes in other units: its producer has changed the scale",
    "missing": "comes empty at another rate: its producer, or the join that fills it, has changed",
    "category": "has values that the model has never seen: its producer's code list has changed, or something new began",
    "range": "has values beyond what the model learned from",
}
_STREAM = {
    "volume": "brings another number of rows than usual: its producer or what is before it has changed",
    "freshness": "arrives later than usual after its event time: something before it is slow or was caught up",
    "labels": "brings no or few labels: what sends them has stopped or is filtered",
    "label_share": "leaves another share of the requests without a label: what sends them or its key has changed",
    "label_delay": "brings its labels with another delay than usual",
}
_SCHEMA = "is written otherwise by its producer than before: a field that is read from it was dropped, renamed or given another type, or is refused"
_ENDED = "has ended, as whoever feeds it has said: what is made of it comes empty or stands still"
_CLASSES = "the version that serves does not know: something new began, or what sends the labels has changed its code list"
_MOST_PARTS, _MOST_CLASSES = 3, 5
_SHIFT = "has another distribution than in the data the model learned from, with no sign of a broken input: the world has changed, or a season"


def cause_of(root: str, kinds: Sequence[str], subjects: Sequence[str], ended: str = "") -> str:
    """Return a sentence on the likely cause: about the root, by the most telling kind of finding, or about the stream that had `ended`.

    >>> cause_of("column:orders.weight", ["missing", "feature"], ["weight"])
    'Column orders.weight comes empty at another rate: its producer, or the join that fills it, has changed.'
    >>> cause_of("stream:orders", ["schema_change", "missing"], ["orders", "weight"])[:62]
    'Stream orders is written otherwise by its producer than before'
    >>> cause_of("column:orders.weight", ["range"], ["weight in country=de"])
    'Column orders.weight has values beyond what the model learned from, where country=de.'
    >>> cause_of("labels:species", ["unknown_class"], ["rosa", "lily"])[:53]
    'Labels of species name classes (rosa, lily) which the'
    >>> cause_of("stream:weather", ["missing"], ["temp", "wind"], "weather")[:58]
    'Stream weather has ended, as whoever feeds it has said: wh'
    """
    what, _, name = root.partition(":")
    if what == "labels":
        classes = f"{', '.join(subjects[:_MOST_CLASSES])}{', ...' if len(subjects) > _MOST_CLASSES else ''}"
        return f"Labels of {name} name classes ({classes}) which {_CLASSES}."
    if what == "model":
        if "prediction" in kinds and len(kinds) == 1:
            return f"The answers of {name} have another distribution while no input stands out: several inputs moved a little."
        return f"What {name} has learned does not hold any more: the relation of inputs and label has changed, and no input is broken."
    features = {subject.partition(" in ")[0] for subject in subjects}
    more = f", seen in {len(features)} features" if len(features) > 1 else ""
    if ended:
        return f"Stream {ended} {_ENDED}{more}."
    words = _SCHEMA if "schema_change" in kinds else next((text for kind, text in (*_STREAM.items(), *_BROKEN.items()) if kind in kinds), _SHIFT)
    parts = sorted({subject.partition(" in ")[2] for subject in subjects})
    where = f", where {' or '.join(parts[:_MOST_PARTS])}{', ...' if len(parts) > _MOST_PARTS else ''}" if "" not in parts else ""
    if "schema_change" in kinds:
        where = ""
    return f"{what.capitalize()} {name} {words}{where}{more}."


def action_of(fallback_share: float) -> str:
    """Return what drift knows of what was done: that the fallback answered. What was decided is control's to say, which adds it to the incident.

    >>> action_of(0.25)
    "the fallback answered 25.0% of the last window's requests"
    """
    return f"the fallback answered {fallback_share:.1%} of the last window's requests" if fallback_share > 0 else ""
