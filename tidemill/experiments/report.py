"""An experiment as one page: no network, light and dark."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tidemill.demo.style import SCRIPT, STYLE
from tidemill.experiments.charts import Axis, Point, curves, parallel, scatter
from tidemill.experiments.comparison import Comparison, Trial, trade_off
from tidemill.experiments.subject import Subject, write_whole
from tidemill.runs.metric_words import metric_text, metric_words
from tidemill.shared.avro.times import instant_text

_CURVES = 4
_STYLE = """
.dot{stroke:var(--card);stroke-width:1.2}
.dot.marked{stroke:var(--ink);stroke-width:2}
.g0{fill:#1f62d0}.g1{fill:#c77c11}.g2{fill:#1c8a4c}.g3{fill:#8b3fb5}.g4{fill:#c8372d}.g5{fill:#0f8b96}.g6{fill:#7b8794}.g7{fill:#b5578f}
.s0{stroke:#1f62d0}.s1{stroke:#c77c11}.s2{stroke:#1c8a4c}.s3{stroke:#8b3fb5}.s4{stroke:#c8372d}.s5{stroke:#0f8b96}.s6{stroke:#7b8794}.s7{stroke:#b5578f}
i.g0{background:#1f62d0}i.g1{background:#c77c11}i.g2{background:#1c8a4c}i.g3{background:#8b3fb5}i.g4{background:#c8372d}i.g5{background:#0f8b96}
i.g6{background:#7b8794}i.g7{background:#b5578f}
.coordinate{fill:none;stroke-width:1.6;opacity:.75}
.coordinate:hover{stroke-width:4;opacity:1}
.q0{stroke:var(--promotion);stroke-width:2.6}.q1{stroke:var(--served)}.q2{stroke:var(--bar)}.q3{stroke:var(--static)}.q4{stroke:var(--alarm);opacity:.45}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px}
th[data-sort]{cursor:pointer;user-select:none}
th[data-sort]:hover{color:var(--ink)}
th.up::after{content:" \\2191"}th.down::after{content:" \\2193"}
td.settings{min-width:240px}
tr.failed td{color:var(--alarm)}
tr.best td{font-weight:650}
.picks{display:grid;grid-template-columns:repeat(auto-fit,minmax(250px,1fr));gap:12px;margin-bottom:18px}
.pick{background:var(--card);border:1px solid var(--rule);border-top:3px solid var(--promotion);border-radius:10px;padding:12px 14px}
.pick span{color:var(--soft);font-size:13px;display:block}
.pick b{font-size:19px;display:block;font-variant-numeric:tabular-nums}
.pick i{font-style:normal;font-size:13px;color:var(--soft);overflow-wrap:anywhere}
"""
_SORT = """
document.querySelectorAll('th[data-sort]').forEach((head,column)=>head.addEventListener('click',()=>{
const body=head.closest('table').tBodies[0],up=!head.classList.contains('up');
head.parentNode.querySelectorAll('th').forEach(h=>h.classList.remove('up','down'));head.classList.add(up?'up':'down');
const key=row=>row.cells[column].dataset.key;
[...body.rows].sort((a,b)=>{const x=key(a),y=key(b);if(x===''||y==='')return (x==='')-(y==='');
const n=Number(x)-Number(y);return (up?1:-1)*(Number.isNaN(n)?x.localeCompare(y):n)}).forEach(row=>body.append(row))}));
"""


_TABLE_WORDS = (
    "By {loss}; click a heading to sort. “Behind” is the mean {loss} above the best one's on the same requests; bold where that is beyond the noise"
    " of days (5 %, for one comparison). The best of many looks better than it is: the gate judges what is to serve on requests that none has seen."
)


def write_html(path: Path, subject: Subject, comparison: Comparison, about: Mapping[str, Any]) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _page(subject, comparison, about))


def _page(subject: Subject, comparison: Comparison, about: Mapping[str, Any]) -> str:
    done, failed = comparison.done, comparison.failed
    title = f"Experiments: {subject.model} of {subject.app}"
    first, last = subject.folds.spans[-1][0], subject.folds.spans[0][1]
    headline = (
        f"{len(done)} configurations trained and judged{f', {len(failed)} failed' if failed else ''}, each on {len(subject.folds)}"
        f" {'stretches' if len(subject.folds) > 1 else 'stretch'} of time from {instant_text(first)[:10]} to {instant_text(last)[:10]},"
        f" by models that knew nothing of it: {_judged(done)} requests."
        f" The requests of the {subject.folds.horizon_ms / 3_600_000:.1f} hours before each stretch are left out: their labels were still coming."
    )  # fmt: skip
    groups = _groups(done)
    keys = "".join(f'<span class="key"><i class="heat g{number % 8}"></i>{escape(family)}</span>' for family, number in groups.items())
    loss = _loss_words(subject)
    sections = [
        _section(
            "Parallel coordinates",
            "Each line is a trial: green the best by loss, then blue, light blue and grey down the ranking. Point at a line to read it.",
            parallel(*_coordinates(comparison, loss)),
            "wide",
        ),
        _section(
            f"Learning time against {loss}",
            "Processor time of the fit on the newest stretch's past. The best, and the fastest that is as good as it, have a rim.",
            f'<div class="keys">{keys}</div>' + scatter(_points(comparison, groups), "seconds of one processor", loss),
        ),
        _section("Precision against recall", _curve_words(comparison), _curves(comparison)),
        _section("All trials", _TABLE_WORDS.format(loss=loss), _table(comparison, loss), "wide"),
        _section("What was done", "", _about(subject, about), "wide"),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head><body><main><header><h1>{escape(title)}</h1>"
        f'<p>{escape(headline)}</p></header><div class="picks">{_picks(comparison, loss)}</div>'
        f'<div class="grid-page">{"".join(sections)}</div></main>'
        f'<div id="tip"></div><script>{SCRIPT}{_SORT}</script></body></html>'
    )


def _loss_words(subject: Subject) -> str:
    return "squared error" if subject.kind == "regression" else "log loss"


def _judged(done: Sequence[Trial]) -> str:
    return f"{done[0].result['judged']:,}" if done else "no"


def _groups(done: Sequence[Trial]) -> dict[str, int]:
    return {family: place for place, family in enumerate(sorted({trial.configuration.family for trial in done}))}


def _picks(comparison: Comparison, loss: str) -> str:
    name = comparison.kind.headline
    cards: list[tuple[str, str, Trial | None]] = [(f"Most accurate: smallest {loss}", _value(comparison.best_loss, "loss"), comparison.best_loss)]
    metric = comparison.best_metric
    cards.append((f"Best {metric_words(name)}", metric_text(name, metric.result["figures"][name]) if metric else "-", metric))
    if comparison.best_trade_off is not None:
        point, trial = trade_off(comparison.best_trade_off), comparison.best_trade_off
        words = f" (largest F1 {point[0]:.3f}: recall {point[1]:.2f}, precision {point[2]:.2f})" if point else ""
        average = f"{trial.result['figures']['average_precision']:.3f}"
        cards.append((f"Best precision-recall trade-off: average precision{words}", average, trial))
    cards.append((f"Fastest to train, behind by at most {comparison.margin:.3g}", f"{_value(comparison.fastest, 'train_s')} s", comparison.fastest))
    return "".join(
        f'<div class="pick"><span>{escape(title)}</span><b>{escape(value)}</b><i>{escape(_named(trial))}</i></div>' for title, value, trial in cards
    )


def _value(trial: Trial | None, name: str) -> str:
    return "-" if trial is None else f"{trial.result[name]:.4g}"


def _named(trial: Trial | None) -> str:
    return "no trial was done" if trial is None else f"{trial.number}: {trial.configuration.words}"


def _tip(trial: Trial, loss: str) -> str:
    figures = ", ".join(f"{metric_words(name)} {metric_text(name, value)}" for name, value in list(trial.result["figures"].items())[:3])
    words = trial.configuration.words.replace("), ", ")\n")
    return f"trial {trial.number}: {words}\n{loss} {trial.loss:.5g}; {figures}\ntrained in {trial.result['train_s']:.2f} s"


def _points(comparison: Comparison, groups: Mapping[str, int]) -> list[Point]:
    marked, loss = (comparison.best_loss, comparison.fastest), "loss"
    return [
        Point(trial.result["train_s"], trial.loss, groups[trial.configuration.family], _tip(trial, loss), any(trial is one for one in marked))
        for trial in reversed(comparison.done)
    ]


def _coordinates(comparison: Comparison, loss: str) -> tuple[list[Axis], list[int], list[str]]:
    done, name = comparison.done, comparison.kind.headline
    settings = list(dict.fromkeys(key for trial in done for key in trial.configuration.parameters))
    axes = [
        Axis("family", [trial.configuration.family for trial in done]),
        Axis("features", [float(len(trial.configuration.columns)) for trial in done]),
        Axis("window (days)", ["all" if not trial.configuration.window_days else str(trial.configuration.window_days) for trial in done]),
        *(Axis(key.replace("_", " "), [_setting(trial, key) for trial in done], log=True) for key in settings),
        Axis("train s", [float(trial.result["train_s"]) for trial in done], log=True),
        Axis(metric_words(name), [trial.result["figures"].get(name) for trial in done]),
        Axis(loss, [trial.loss for trial in done]),
    ]
    ranks = [0 if place == 0 else 1 + 3 * place // len(done) for place in range(len(done))]
    return axes, ranks, [_tip(trial, loss) for trial in done]


def _setting(trial: Trial, name: str) -> float | str | None:
    value = trial.configuration.parameters.get(name)
    return value if value is None or isinstance(value, str) else float(value)


def _curve_words(comparison: Comparison) -> str:
    if comparison.kind.name == "regression":
        return ""
    pairs = ", of all pairs of a request and a class" if comparison.kind.name == "multiclass" else ""
    return f"The best by average precision and the next ones of other families{pairs}; the dot is the largest F1."


def _curves(comparison: Comparison) -> str:
    done = [trial for trial in comparison.done if trial.result["curve"]]
    ranked = sorted(done, key=lambda trial: (-trial.result["figures"].get("average_precision", -math.inf), trial.number))
    shown: list[Trial] = []
    for trial in ranked:
        if trial.configuration.family not in [one.configuration.family for one in shown] and len(shown) < _CURVES:
            shown.append(trial)
    lines = []
    for trial in shown:
        point = trade_off(trial)
        number = _groups(comparison.done)[trial.configuration.family]
        name = f"{_named(trial)}\naverage precision {trial.result['figures'].get('average_precision', math.nan):.3f}"
        lines.append((name, trial.result["curve"], number, (point[1], point[2]) if point else None))
    keys = "".join(
        f'<span class="key"><i class="heat g{group % 8}"></i>{escape(name.partition(" (")[0].partition(",")[0])}</span>'
        for name, _, group, _ in lines
    )
    return f'<div class="keys">{keys}</div>{curves(lines)}'


def _table(comparison: Comparison, loss: str) -> str:
    names = [name for name in _metrics(comparison) if name not in ("log_loss",)]
    heads = ["#", "family", "window", "features", "hyperparameters", loss, "behind", "by stretch", *map(metric_words, names), "train s", "rows"]
    rows = []
    for row in comparison.rows:
        trial, one = row.trial, row.trial.configuration
        settings = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in one.parameters.items())
        cells: list[tuple[str, object]] = [(str(trial.number), trial.number), (one.family, one.family)]
        cells += [(f"{one.window_days} days" if one.window_days else "all", one.window_days or 10**6)]
        cells += [(f"{one.feature_set} ({len(one.columns)})", len(one.columns)), (settings, settings)]
        if trial.status == "done":
            figures = trial.result["figures"]
            behind = "best" if trial is comparison.best_loss else f"{row.behind:+.4f}"
            cells += [(f"{trial.loss:.5g}", trial.loss), (behind, row.behind)]
            cells += [(" ".join(f"{part:.4g}" for part in reversed(trial.result["fold_losses"])), trial.result["fold_losses"][0])]
            cells += [(metric_text(name, figures.get(name)), figures.get(name, "")) for name in names]
            cells += [(f"{trial.result['train_s']:.2f}", trial.result["train_s"]), (f"{trial.result['rows']:,}", trial.result["rows"])]
            body = "".join(
                f'<td class="n" data-key="{escape(str(key))}">{f"<b>{escape(words)}</b>" if place == 6 and row.sure else escape(words)}</td>'
                if place not in (1, 3, 4)
                else f'<td{" class=settings" if place == 4 else ""} data-key="{escape(str(key))}">{escape(words)}</td>'
                for place, (words, key) in enumerate(cells)
            )
        else:
            body = "".join(f'<td data-key="{escape(str(key))}">{escape(words)}</td>' for words, key in cells)
            body += f'<td data-key="" colspan="{len(heads) - len(cells)}">{escape(trial.reason)}</td>'
            body += "".join('<td data-key="" hidden></td>' for _ in range(len(heads) - len(cells) - 1))
        kind = ' class="failed"' if trial.status != "done" else ' class="best"' if trial is comparison.best_loss else ""
        rows.append(f"<tr{kind}>{body}</tr>")
    head = "".join(f"<th data-sort>{escape(name)}</th>" for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _metrics(comparison: Comparison) -> list[str]:
    first = comparison.kind.headline
    wanted = (first, "average_precision", "f1", "precision", "recall", "calibration_error", "mean_absolute_error", "root_mean_squared_error", "r2")
    have = {name for trial in comparison.done for name in trial.result["figures"]}
    return [name for name in dict.fromkeys(wanted) if name in have]


def _about(subject: Subject, about: Mapping[str, Any]) -> str:
    rows = [(name.replace("_", " "), str(value)) for name, value in about.items()]
    rows += [(f"dataset {name.replace('_', ' ')}", value) for name, value in subject.dataset.items()]
    rows += [("most rows of a fit", f"{subject.rules.rows:,}" if subject.rules.rows else "all"), ("seed", str(subject.rules.seed))]
    rows += [("stretches judged on", "; ".join(f"{instant_text(begin)[:16]} to {instant_text(end)[:16]}" for begin, end in subject.folds.spans))]
    rows += [("code", subject.code), ("experiment", subject.identity)]
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def _section(title: str, words: str, body: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{f"<p>{escape(words)}</p>" if words else ""}{body}</section>'
