"""The demo's HTML report: one file, no network, light and dark."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tidemill.demo.charts import HEAT_STEPS, heat_map, histogram_chart, quality_chart
from tidemill.demo.style import SCRIPT, STYLE

Float64 = NDArray[np.float64]
# Characters of a cell that is a sentence, and of a name that may be broken.
SENTENCE, NAME = 60, 20
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
MarkKind = Literal["alarm", "promotion", "refusal", "trial", "step_back", "rollback"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at an instant of journal time."""

    time_ms: int
    kind: MarkKind
    words: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is to be shown."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the report shows, as plain arrays and tables.

    Attributes
    ----------
    headline
        One sentence with the result.
    tiles
        (name, value, remark) of the figures at the top.
    metric
        What the curves show, in words.
    begins_ms, served, static, refit : float64 arrays, shape (blocks,)
        Begin of each block (journal time) and the metric of its labels; NaN where undefined.
    marks
        Drift alarms, promotions, refusals, begins of stages, steps back, roll-backs.
    label_delay_min, latency_ms : float64 arrays
        One per label; one per request of the latency stretch.
    features, psi_weeks_ms, psi : names, float64 arrays of shape (weeks,) and (features, weeks)
        Mean evidence of a week's windows in units of what it takes to warn; NaN where nothing was compared.
    models, incidents, slices, promotions, bad_records, summary, audit
        Tables.
    is_live
        Whether the run was on servers: only such a run has latencies, planted records and an audit to show.
    """

    title: str
    headline: str
    tiles: Sequence[tuple[str, str, str]]
    metric: str
    begins_ms: Float64
    served: Float64
    static: Float64
    refit: Float64
    marks: Sequence[Mark]
    label_delay_min: Float64
    latency_ms: Float64
    features: Sequence[str]
    psi_weeks_ms: Float64
    psi: Float64
    models: Table
    bad_records: Table
    summary: Table
    audit: Table
    is_live: bool = True
    incidents: Table = Table((), ())
    slices: Table = Table((), ())
    promotions: Table = Table((), ())
    quality_title: str = "Quality over the year"
    quality_words: str = "AUC of each week's labels, on the same requests."
    block_ms: float = 7 * 86_400_000.0


PROMOTIONS_WORDS = (
    "Loss of the new champion minus that of the old one, on the 5,000 labelled requests that came next; each end is a 95 % bound over days."
    " Harmful is what surely cost more than the gate's margin."
)


def write_report(folder: Path, data: ReportData, name: str = "demo-report.html") -> Path:
    """Write the report into a folder (made if need be) and return its path.

    Raises
    ------
    ValueError
        Arrays that belong together differ in length.
    """
    sizes = {name: len(getattr(data, name)) for name in ("begins_ms", "served", "static", "refit")}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"expected one value per block, got {sizes}")
    if data.psi.shape != (len(data.features), len(data.psi_weeks_ms)):
        raise ValueError(f"expected psi of shape {(len(data.features), len(data.psi_weeks_ms))} (features, weeks), got {data.psi.shape}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(_page(data), encoding="utf-8")
    return path


def _page(data: ReportData) -> str:
    marks = [(float(mark.time_ms), mark.kind, mark.words) for mark in data.marks]
    tiles = "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><i>{escape(remark)}</i></div>' for name, value, remark in data.tiles
    )
    curves = '<span class="key"><i class="served"></i>served</span><span class="key"><i class="static"></i>first model, never retrained</span>'
    curves += '<span class="key"><i class="refit"></i>every candidate, none refused</span>'
    curves += '<span class="key"><i class="promoted"></i>promotion</span>'
    heat = "".join(f'<span class="key"><i class="heat h{i}"></i>{escape(words)}</span>' for i, (_, words) in enumerate(HEAT_STEPS))
    delays = histogram_chart(np.asarray(data.label_delay_min, dtype=np.float64) / 60.0, "h", (0.5, 0.95))
    latency = histogram_chart(np.asarray(data.latency_ms, dtype=np.float64), "ms", (0.5, 0.99), log=True)
    sections = [
        _section(data.quality_title, data.quality_words, f'<div class="keys">{curves}</div>'
                 + quality_chart(data.begins_ms, data.served, data.static, data.refit, marks, data.metric, data.block_ms), "wide"),
        _section("When the truth arrives", "From the request to its label.", delays),
        _section("How fast an answer comes", "From publishing an event to reading its prediction, logarithmic.", latency)
        if len(data.latency_ms) or data.is_live else "",
        _section("Feature drift", "Evidence that windows differ more than the champion's own data did: 1 warns, none retrains.",
                 f'<div class="keys">{heat}</div>' + heat_map(data.features, data.psi_weeks_ms, data.psi), "wide"),
        _section("Incidents", "Findings that share a column, a view or a stream, from the first one until three quiet windows have passed.",
                 _table(data.incidents), "wide"),
        _section("Slices", "Of the last 28 windows, with 95 % intervals; fewer than 200 labels are not judged.", _table(data.slices), "wide")
        if data.slices.rows else "",
        _section("Promotions", PROMOTIONS_WORDS, _table(data.promotions), "wide") if data.promotions.rows else "",
        _section("Models", "Every candidate, with the figures it was judged by.", _table(data.models), "wide"),
        _section("Where the bad records went", "Put in on purpose, counted up front." if data.is_live else "By reason.", _table(data.bad_records)),
        _section("Audit", "Recomputed from the journal and, independently, from the source files.", _table(data.audit)) if data.is_live else "",
        _section("Run", "", _table(data.summary), "wide"),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(data.title)}</title><style>{STYLE}</style></head><body><main><header><h1>{escape(data.title)}</h1>"
        f'<p>{escape(data.headline)}</p></header><div class="tiles">{tiles}</div><div class="grid-page">{"".join(sections)}</div></main>'
        f'<div id="tip"></div><script>{SCRIPT}</script></body></html>'
    )


def _section(title: str, words: str, body: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{f"<p>{escape(words)}</p>" if words else ""}{body}</section>'


def _table(table: Table) -> str:
    if not table.rows:
        return '<p class="none">Nothing to show.</p>'
    for row in table.rows:
        if len(row) != len(table.headers):
            raise ValueError(f"expected {len(table.headers)} cells ({', '.join(table.headers)}), got {list(row)}")
    head = "".join(f"<th>{escape(header)}</th>" for header in table.headers)
    rows = "".join("<tr>" + "".join(f"<td{_form(cell)}>{_words(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _form(cell: str) -> str:
    """A number stays on one line, and a sentence has room."""
    try:
        float(cell.replace(",", "").rstrip("%"))
    except ValueError:
        return ' class="w"' if len(cell) > SENTENCE else ""
    return ' class="n"'


def _words(cell: str) -> str:
    """Text whose dates stay whole, and whose long names may break behind a colon."""
    names = [escape(word).replace(":", ":<wbr>") if len(word) > NAME else escape(word) for word in cell.split(" ")]
    return _DATE.sub(r'<span class="n">\g<0></span>', " ".join(names))
