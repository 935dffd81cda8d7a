"""A model card: one page about one version, no network, light and dark."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from tidemill.cards.facts import CardFacts
from tidemill.cards.figures import Bin, Part, by_value, by_week, fairness, part, reliability
from tidemill.cards.history_sections import comparisons, events, incidents, stays
from tidemill.cards.tables import section as _section
from tidemill.cards.tables import table as _table
from tidemill.demo.charts import frame, line, text
from tidemill.demo.style import SCRIPT, STYLE
from tidemill.runs.metric_words import metric_text, metric_words
from tidemill.services.retraining.registration import lineage_document
from tidemill.shared.application.model import Model
from tidemill.shared.avro.times import instant_text

_SHOWN = (
    "auc",
    "average_precision",
    "f1",
    "precision",
    "recall",
    "accuracy",
    "calibration_error",
    "mean_absolute_error",
    "root_mean_squared_error",
    "r2",
)
_STYLE = """
.dot{fill:var(--served)}
.whisker{stroke:var(--served);stroke-width:2}
.ideal{stroke:var(--soft);stroke-dasharray:4 4}
pre{overflow-x:auto;margin:0 0 10px}
.tile b{font-size:17px;overflow-wrap:anywhere}
td:nth-child(2):last-child{overflow-wrap:anywhere}
td:first-child{min-width:90px}
"""
_WENT = (("promoted_at", "into service"), ("restored_at", "restored"), ("retired_at", "out of service"), ("rolled_back_at", "rolled back"))
_TIES = (
    ("rows", "labelled rows known"), ("vectors_version", "Delta version of vectors"), ("outcomes_version", "Delta version of outcomes"),
    ("sha256", "SHA-256 of the content"), ("views", "version of the views"), ("application", "hash of the application file"),
    ("lock_sha256", "lock file, SHA-256"), ("code", "code"), ("code_sha256", "code, SHA-256"), ("python", "Python"), ("seed", "seed"),
)  # fmt: skip
_INSTANTS = (
    ("requests_from_ms", "first request"), ("requests_until_ms", "last request"), ("learned_until_ms", "learned requests until"),
    ("judged_from_ms", "judged from"), ("judged_until_ms", "judged until"), ("before_ms", "what was known before"),
)  # fmt: skip
_MOST_FEATURES = 25


def write_card(path: Path, facts: CardFacts) -> None:
    """Write the page; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(_page(facts), encoding="utf-8")
    beside.replace(path)


def _page(facts: CardFacts) -> str:
    kind, settings, signature = facts.model.kind, facts.model.settings, facts.signature
    whole = part(kind, facts.since, "all")
    owner = facts.plan.application.owner_of("models", facts.model.name)
    title = f"{facts.model.name} {signature.version}"
    answers = sum(one.answers for one in facts.services)
    headline = settings.card.intended_use or "Its application file does not say what it is for (models, card: intended_use)."
    sections = [
        _section("What it must not be used for", "", _items(settings.card.limitations) if settings.card.limitations
                 else '<p class="none">The application file says nothing (models, card: limitations).</p>', "wide"),
        _section("In service", "", _table(("", "from", "to", "answers"), _history(facts)), "wide"),
        _section("Stages", "When it was in which stage, by the lifecycle log.", stays(facts.history), "wide"),
        _section("Trials beside a champion", "Whole blocks of requests that both were scored on, once labels had matured.",
                 comparisons(facts.history), "wide"),
        _section("Deployment history", "Every event of the lifecycle log about this version, with the decision that it follows from.",
                 events(facts.history), "wide"),
        _section("Answers since", f"{len(facts.since):,} labelled answers of this version, whole and by week.",
                 _parts([whole, *by_week(kind, facts.since)], kind.headline)),
        _section("What its probabilities meant", "Ten groups of answers of about equal probability, with 95 % intervals; on the line as was said.",
                 _calibration(reliability(kind, facts.since))) if kind.name != "regression" else "",
        _section("Slices", "Values with fifty labels and more.", _parts(by_value(kind, facts.since, settings.slices), kind.headline), "wide"),
        _section("Fairness", "Differences between groups of declared columns, of what it served.", _fairness(facts, settings), "wide"),
        _section("Features that have moved since", "Requests it answered against those it learned from: population stability index. Above 0.2 is"
                 " much, and between seasons usual.", _moved(facts)),
        _section("Incidents since", "Of this model, begun or lasting while this version answered; each as its newest record has it.",
                 incidents(facts.history), "wide"),
        _section("Judged before it served", "Figures of the search and of the gate, on requests that it had not learned from." if facts.registered
                 else "There is no registry beside the archive, or it does not know this version.", _judged(facts), "wide"),
        _section("What it learned from", "", _table(("", ""), _data(facts))),
        _section("How to make it again", "Same lock file, code and architecture: the same bytes (docs/guide/reproduce.md).", _reproduce(facts)),
        _section("What it is made of", "From raw topics to features.", _lineage(facts), "wide"),
    ]  # fmt: skip
    tiles = [
        ("Application", facts.plan.application.app, f"kind {kind.name}"),
        ("Owner", owner, "answers for it"),
        ("Recipe", signature.family, f"{len(facts.model.features)} features"),
        (f"{metric_words(kind.headline)} since", metric_text(kind.headline, whole.figures.get(kind.headline)), f"{whole.rows:,} labels"),
        ("Answers", f"{answers:,}", "serves" if _serves(facts) else "does not serve"),
        ("Size", f"{facts.size / 1024:,.0f} KiB", facts.sha256[:12]),
    ]
    shown = "".join(f'<div class="tile"><span>{escape(a)}</span><b>{escape(b)}</b><i>{escape(c)}</i></div>'
                    for a, b, c in tiles)  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head><body><main><header><h1>{escape(title)}</h1>"
        f'<p>{escape(headline)}</p></header><div class="tiles">{shown}</div><div class="grid-page">{"".join(sections)}</div></main>'
        f'<div id="tip"></div><script>{SCRIPT}</script></body></html>'
    )


def _serves(facts: CardFacts) -> bool:
    if facts.history.is_kept:
        return bool(facts.history.stays) and facts.history.stays[-1].stage == "champion" and facts.history.stays[-1].until_ms is None
    tags = facts.registered.tags if facts.registered else {}
    last = max((tags[name], name) for name, _ in _WENT if name in tags) if any(name in tags for name, _ in _WENT) else ("", "")
    return last[1] in ("promoted_at", "restored_at")


def _history(facts: CardFacts) -> list[tuple[str, str, str, str]]:
    rows = [
        (f"answered as {one.variant}", instant_text(one.first_ms)[:19], instant_text(one.last_ms)[:19], f"{one.answers:,}") for one in facts.services
    ]
    tags = facts.registered.tags if facts.registered else {}
    rows += [(words, tags[name][:19], "", "") for name, words in _WENT if name in tags]
    return rows or [("never answered", "", "", "")]


def _data(facts: CardFacts) -> list[tuple[str, str]]:
    details, signature = facts.details, facts.signature
    rows = [("rows learned from", signature.details.get("learned_rows", ""))]
    rows += [(name, details[key]) for key, name in _TIES if key in details]
    rows += [(name, instant_text(int(details[key]))[:19]) for key, name in _INSTANTS if details.get(key, "").lstrip("-").isdigit()]
    return rows


def _reproduce(facts: CardFacts) -> str:
    details, name = facts.details, facts.model.name
    lines = [f"tidemill reproduce APPLICATION {name}@{facts.signature.version}"]
    if details.get("before_ms", "").isdigit():
        lines += ["", "# its training set alone:", f"tidemill training-set APPLICATION {name} --to {details['before_ms']} --out training-set.parquet"]
    parameters = facts.registered.parameters if facts.registered else {}
    rows = (
        sorted(parameters.items())
        if parameters
        else [(key, value) for key, value in sorted(facts.signature.details.items()) if not key.endswith("_ms")]
    )
    return f"<pre>{escape(chr(10).join(lines))}</pre>{_table(('parameter', 'value'), rows)}"


def _judged(facts: CardFacts) -> str:
    if facts.registered is None:
        verdict = facts.record and f"{'passed' if facts.record.passed else 'refused'}: {facts.record.reason}"
        return f"<p>{escape(verdict)}</p>" if verdict else ""
    words = f"<p>{escape(facts.registered.tags.get('gate', ''))}: {escape(facts.registered.tags.get('reason', ''))}</p>"
    cells = [(name.replace("_", " "), f"{value:.5g}") for name, value in sorted(facts.registered.metrics.items())]
    # Three pairs in a row: there are dozens.
    third = -(-len(cells) // 3)
    cells += [("", "")] * (3 * third - len(cells))
    rows = [(*cells[row], *cells[row + third], *cells[row + 2 * third]) for row in range(third)]
    return words + _table(("figure", "value") * 3, rows)


def _parts(parts: Sequence[Part], headline: str) -> str:
    have = {name for one in parts for name in one.figures}
    names = [headline, *(name for name in _SHOWN if name != headline)]
    names = [name for name in names if name in have][:6]
    rows = [
        (one.name, f"{one.rows:,}", f"{one.loss:.4g}", *(metric_text(name, one.figures.get(name)) for name in names)) for one in parts if one.rows
    ]
    return _table(("", "labels", "loss", *map(metric_words, names)), rows)


def _fairness(facts: CardFacts, settings: Model) -> str:
    limits = settings.gate.fairness
    if limits is None:
        return '<p class="none">The application file declares no sensitive columns (gate: fairness).</p>'
    if facts.model.kind.name != "binary" or not len(facts.since):
        return '<p class="none">No labelled answers to judge by.</p>'
    gaps = fairness(facts.since, limits)
    allowed = {"demographic_parity": limits.demographic_parity, "equalized_odds": limits.equalized_odds}
    rows = []
    for column in limits.columns:
        rows.append((f"groups of {column} that are judged", f"{gaps.figures.get(f'fairness_groups__{column}', 0):.0f}", "", ""))
        for measure, limit in allowed.items():
            if f"{measure}__{column}" in gaps.figures:
                low = gaps.figures[f"{measure}_low__{column}"]
                rows.append((f"{measure.replace('_', ' ')}, {column}", f"{gaps.figures[f'{measure}__{column}']:.3f}", f"{low:.3f}", f"{limit:g}"))
    judged = max((gaps.figures.get(f"fairness_groups__{column}", 0) for column in limits.columns), default=0)
    nothing = "No limit is surely exceeded." if judged > 1 else "Fewer than two groups have 200 labels and 30 of each class."
    words = f"<p>{escape(gaps.problem or nothing)}</p>"
    groups = by_value(facts.model.kind, facts.since, limits.columns)
    return words + _table(("", "difference", "at least (95 %)", "limit"), rows) + _parts(groups, facts.model.kind.headline)


def _calibration(bins: Sequence[Bin]) -> str:
    if not bins:
        return '<p class="none">Too few labelled answers.</p>'
    left, right, top, bottom = 46.0, 514.0, 14.0, 300.0
    most = min(1.0, 1.05 * max(max(one.said, one.high) for one in bins))

    def x(value: float) -> float:
        return left + value / most * (right - left)

    def y(value: float) -> float:
        return bottom - value / most * (bottom - top)

    body = [line(left, bottom, right, bottom, "axis"), line(x(0), y(0), x(most), y(most), "ideal")]
    for step in range(1, 5):
        at = most * step / 4
        body += [line(left, y(at), right, y(at), "grid"), text(left - 8, y(at) + 4, f"{at:.2g}", "end", "tick")]
        body.append(text(x(at), bottom + 18, f"{at:.2g}", "middle", "tick"))
    for one in bins:
        tip = f"said {one.said:.3f}\nwas {one.share:.3f} ({one.low:.3f} to {one.high:.3f})\n{one.rows:,} answers"
        body.append(line(x(one.said), y(max(0.0, one.low)), x(one.said), y(one.high), "whisker"))
        body.append(f'<circle cx="{x(one.said):.1f}" cy="{y(one.share):.1f}" r="5" class="dot" data-tip="{escape(tip)}"/>')
    body += [text(right, bottom + 38, "probability that was said", "end", "tick"), text(left, top - 2, "share that was so", "start", "tick")]
    return frame(bottom + 46, body, "what probabilities meant", 530.0)


def _moved(facts: CardFacts) -> str:
    if not facts.moved:
        return '<p class="none">Too few requests to compare.</p>'
    rows = [(one.feature, f"{one.psi:.3f}", f"{one.before:.1%}", f"{one.since:.1%}") for one in facts.moved[:_MOST_FEATURES]]
    more = len(facts.moved) - len(rows)
    return _table(("feature", "index", "missing then", "missing since"), rows) + (f"<p>{more} more moved less.</p>" if more > 0 else "")


def _lineage(facts: CardFacts) -> str:
    lineage = lineage_document(facts.plan, facts.model.name)
    streams = [(name, one["topic"], one["owner"]) for name, one in lineage["streams"].items()]
    label = lineage["label"]
    features = [(name, one["view"], ", ".join(one["columns"])) for name, one in lineage["features"].items()]
    told = f"Asked by {lineage['asked_by']}; the label is {label['value']} of {label['stream']}, by {label['joined_by']}."
    words = f"<p>{escape(told)}</p>"
    return words + _table(("stream", "topic", "owner"), streams) + _table(("feature", "view", "raw columns"), features)


def _items(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in texts) + "</ul>"
