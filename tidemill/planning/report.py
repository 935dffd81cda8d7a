"""A plan as people read it: lines for a terminal, a page for a merge request."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tidemill.demo.style import STYLE
from tidemill.planning.application_plan import ApplicationPlan

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}
_VERDICTS = {
    "nothing": "Nothing changes.",
    "changes": "This can be applied.",
    "refused": "This cannot be applied as it is; nothing of it would be.",
}


def lines(plan: ApplicationPlan) -> Iterator[str]:
    """Write a plan down, line by line."""
    difference = plan.difference
    for change in difference.changes:
        yield f"{_SIGNS[change.action]} {change.section} {change.name}"
        yield from (f"    {detail}" for detail in change.details)
        yield from (f"    => {effect}" for effect in change.effects)
    if difference.topics:
        yield f"topics to create: {', '.join(difference.topics)}"
    if plan.backfill.columns:
        yield f"columns to backfill: {', '.join(plan.backfill.columns)}"
    if (told := backfill_words(plan)) and difference.restarts:
        yield told
    if difference.restarts:
        yield f"started again, one after the other: {', '.join(difference.restarts)}"
    yield from (f"note: {warning}" for warning in (*difference.warnings, *plan.notes))
    yield from trial_lines(plan.trial or {})
    yield from (f"REFUSED {refusal.code}: {refusal}" for refusal in difference.refusals)
    yield _VERDICTS[plan.verdict]


def backfill_words(plan: ApplicationPlan) -> str:
    """Say how much of the journal is folded again, and for how long predictions wait."""
    made = plan.backfill
    if made.records == 0:
        return ""
    if made.records is None:
        return "the state of the views is made again from the whole journal"
    words = f"the state of the views is made again from {made.records:,} records of the journal"
    return words if made.seconds is None else f"{words}, about {made.seconds:.0f} s at {made.rate_per_s:,.0f} a second; requests wait for so long"


def trial_lines(trial: Mapping[str, Any]) -> Iterator[str]:
    """Say what the backtest of both found, a line for each model, the worst slices below it."""
    for name, figures in trial.items():
        if not figures["rows"]:
            yield f"backtest {name}: {figures['why']}"
            continue
        yield (
            f"backtest {name}: {figures['metric']} {figures['changed']:.4f} changed, {figures['running']:.4f} running;"
            f" {_interval(figures['gap'])} over {figures['rows']:,} requests; mean loss {_interval(figures['loss'])}"
        )
        for one in figures["slices"]:
            yield f"    {one['slice']}: mean loss {_interval(one['loss'])} ({one['rows']:,} requests)"


def _interval(gap: Mapping[str, float]) -> str:
    return f"{gap['estimate']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"


def write_html(plan: ApplicationPlan, path: Path) -> None:
    """Write a plan as one page without anything from outside."""
    difference = plan.difference
    rows = [
        (f"{_SIGNS[change.action]} {change.action}", f"{change.section} {change.name}", "\n".join(change.details), "\n".join(change.effects))
        for change in difference.changes
    ]
    tiles = [
        ("Changes", str(len(difference.changes))),
        ("Refused", str(len(difference.refusals))),
        ("Columns to backfill", str(len(plan.backfill.columns))),
        ("Started again", str(len(difference.restarts))),
    ]
    parts = [
        _section("What changes", _table(("", "part", "says", "effect"), rows)),
        _section("What is refused", _table(("rule", "where", "why", "instead"), [(r.code, r.where, r.why, r.way_out) for r in difference.refusals])),
        _section("The changed application beside the running one", _list(list(trial_lines(plan.trial or {})))),
        _section("To know", _list([one for one in (backfill_words(plan), *difference.warnings, *plan.notes) if one])),
    ]
    cells = "".join(f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b></div>' for name, value in tiles)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Plan of {escape(plan.app)}</title><style>{STYLE}</style><main>'
        f"<header><h1>Plan of {escape(plan.app)}</h1><p>{escape(_VERDICTS[plan.verdict])}</p></header>"
        f'<div class="tiles">{cells}</div>{"".join(parts)}</main></html>\n'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section><br>"


def _list(texts: Sequence[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts) or '<p class="none">Nothing.</p>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="none">Nothing.</p>'
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    cells = (["<td>" + escape(cell).replace("\n", "<br>") + "</td>" for cell in row] for row in rows)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
