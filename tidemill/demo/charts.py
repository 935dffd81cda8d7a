"""The report's charts: plain SVG whose colours are the page's variables, so that they follow light and dark."""

from collections.abc import Sequence
from datetime import MAXYEAR, UTC, datetime
from html import escape

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.instant import utc

Float64 = NDArray[np.float64]
_WIDTH = 1080.0
_LEFT, _RIGHT = 116.0, 20.0
HEAT_STEPS = ((0.1, "below 0.1"), (0.2, "0.1 to 0.2"), (0.5, "0.2 to 0.5"), (1.0, "0.5 to 1"), (float("inf"), "above 1"))
_DAY_MS = 86_400_000
_MONTHS_FROM_MS = 75 * _DAY_MS
_MOST_TICKS = 10
_TIME_STEPS = (
    (1, (1, 2, 5, 10, 20, 50, 100, 200, 500), "%H:%M:%S.%f"),
    (1_000, (1, 2, 5, 10, 15, 30), "%H:%M:%S"),
    (60_000, (1, 2, 5, 10, 15, 30), "%H:%M"),
    (3_600_000, (1, 2, 4, 6, 12), "%d %b %H:%M"),
    (86_400_000, (1, 2, 5, 7, 14), "%d %b"),
)
LANES = (
    ("alarm", "drift alarms"),
    ("promotion", "promotions"),
    ("refusal", "refusals"),
    ("trial", "stages"),
    ("step_back", "steps back"),
    ("rollback", "roll-backs"),
)


def day(time_ms: float) -> str:
    """A date for people."""
    return utc(time_ms).strftime("%d %b %Y")


def instant(time_ms: float, clock: bool) -> str:
    """A date for people, with the time of day where that matters."""
    return day(time_ms) + (utc(time_ms).strftime(" %H:%M:%S") if clock else "")


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """A piece of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def frame(height: float, body: Sequence[str], label: str, width: float = _WIDTH) -> str:
    """An SVG of its own coordinate size that scales with the page."""
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    raw = (high - low) / count
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(float(size * factor) for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    return [float(value) for value in np.arange(np.ceil(low / step) * step, high + step * 1e-9, step)]


def _time_ticks(start_ms: float, end_ms: float) -> list[tuple[float, str]]:
    """Instants at which an axis of time is labelled: months, or what is short enough for a few of them."""
    span = end_ms - start_ms
    if span >= _MONTHS_FROM_MS:
        return _months(start_ms, end_ms)
    step, form = next((unit * count, form) for unit, counts, form in _TIME_STEPS for count in counts if span <= _MOST_TICKS * unit * count)
    first = -(-int(start_ms) // step) * step
    return [(float(at), utc(at).strftime(form)) for at in range(first, int(end_ms) + 1, step)]


def _months(start_ms: float, end_ms: float) -> list[tuple[float, str]]:
    first = utc(start_ms)
    months, year, month = [], first.year, first.month
    while year <= MAXYEAR and (at := datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000) <= end_ms:
        if at >= start_ms:
            months.append((at, datetime(year, month, 1, tzinfo=UTC).strftime("%b")))
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return months


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "-"


def _paths(xs: Sequence[float], ys: Sequence[float], kind: str) -> list[str]:
    """One path for each stretch without a gap."""
    parts: list[str] = []
    pen = False
    for x, y in zip(xs, ys, strict=True):
        if np.isfinite(y):
            parts.append(f"{'L' if pen else 'M'}{x:.1f} {y:.1f}")
        pen = bool(np.isfinite(y))
    return [f'<path d="{"".join(parts)}" class="{kind}"/>'] if parts else []


def _mark(kind: str, x: float, y: float, tip: str) -> str:
    shapes = {
        "alarm": f'<rect x="{x - 1.5:.1f}" y="{y - 7:.1f}" width="3" height="14" rx="1"',
        "promotion": f'<path d="M{x:.1f} {y - 7:.1f}l6.5 12h-13z"',
        "refusal": f'<path d="M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"',
        "trial": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5"',
        "step_back": f'<path d="M{x:.1f} {y - 6:.1f}l-9 6l9 6z"',
        "rollback": f'<path d="M{x:.1f} {y + 6:.1f}l6.5 -12h-13z"',
    }
    return f'{shapes[kind]} class="mark {kind}" data-tip="{escape(tip)}"/>'


def quality_chart(
    begins_ms: Float64, served: Float64, static: Float64, refit: Float64, marks: Sequence[tuple[float, str, str]], metric: str, block_ms: float
) -> str:
    """A metric over time of what served, of the first model and of every candidate unjudged, and below it a lane for every kind of event.

    Parameters
    ----------
    begins_ms, served, static, refit : float64 arrays, shape (blocks,)
        Begins of the blocks and values; NaN where undefined.
    marks
        Time, kind (`LANES`) and words of each event.
    metric
        What it is, in words.
    block_ms
        Length of a block.
    """
    known = np.concatenate([values[np.isfinite(values)] for values in (served, static, refit)])
    if not known.size:
        return f'<p class="none">No stretch of time has enough labels for the {escape(metric)}.</p>'
    margin = 0.08 * float(np.ptp(known)) or 0.01 * abs(float(known[0])) or 0.01
    low, high = float(known.min()) - margin, float(known.max()) + margin
    times = [time for time, _, _ in marks]
    start, end = min([float(begins_ms[0]), *times]), max([float(begins_ms[-1]) + block_ms, *times])
    top, bottom = 16.0, 330.0
    right = _WIDTH - _RIGHT
    clock = block_ms < _DAY_MS

    def x(time: float) -> float:
        return _LEFT + (time - start) / (end - start) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    lanes_end = bottom + 30 + 26 * len(LANES)
    body = [line(_LEFT, y(tick), right, y(tick), "grid") + text(_LEFT - 8, y(tick) + 4, f"{tick:.4g}", "end", "tick") for tick in _ticks(low, high)]
    for at, name in _time_ticks(start, end):
        body += [line(x(at), top, x(at), lanes_end - 10, "grid faint"), text(min(x(at) + 4, right - 40), lanes_end + 8, name, "start", "tick")]
    body += [line(x(time), top, x(time), bottom, "promoted") for time, kind, _ in marks if kind == "promotion"]
    middles = [x(time + block_ms / 2) for time in begins_ms]
    body += _paths(middles, [y(value) for value in static], "curve static")
    body += _paths(middles, [y(value) for value in refit], "curve refit")
    body += _paths(middles, [y(value) for value in served], "curve served")
    for i, time in enumerate(begins_ms):
        words = f"{metric} from {instant(time, clock)}\nserved {_number(served[i])}\nfirst model {_number(static[i])}"
        words += f"\nalways refit {_number(refit[i])}"
        place = f'x="{x(time):.1f}" y="{top}" width="{x(time + block_ms) - x(time):.1f}" height="{bottom - top}"'
        body.append(f'<rect {place} class="hover" data-tip="{escape(words)}"/>')
    for number, (kind, name) in enumerate(LANES):
        level = bottom + 32 + 26 * number
        mine = [(time, words) for time, own, words in marks if own == kind]
        body += [text(_LEFT - 8, level + 4, f"{len(mine)} {name}", "end", "tick"), line(_LEFT, level, right, level, "grid")]
        body += [_mark(kind, x(time), level, f"{instant(time, clock)}\n{words}") for time, words in mine]
    return frame(lanes_end + 16, body, f"{metric} over time, served against the first model and against every candidate")


def histogram_chart(values: Float64, unit: str, quantiles: Sequence[float], log: bool = False, bins: int = 48) -> str:
    """Histogram (over a logarithmic axis if asked), with lines at quantiles; the axis ends at the 99.9 % quantile."""
    values = values[np.isfinite(values)]
    if log:
        values = values[values > 0]
    if not values.size:
        return '<p class="none">Nothing was measured.</p>'
    width, height, bottom = 530.0, 250.0, 206.0
    ceiling = float(np.quantile(values, 0.999))
    scaled = np.log10(values) if log else values
    low, high = float(scaled.min() if log else min(0.0, scaled.min())), float(np.log10(ceiling) if log else ceiling)
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(np.clip(scaled, low, high), bins=bins, range=(low, high))

    def x(value: float) -> float:
        return 20 + (value - low) / (high - low) * (width - 40)

    def shown(value: float) -> str:
        return f"{10**value if log else value:.3g}"

    body = [line(20, bottom, width - 20, bottom, "axis")]
    for i, count in enumerate(counts):
        size = count / counts.max() * (bottom - 34)
        tip = f"{shown(edges[i])} to {shown(edges[i + 1])} {unit}\n{int(count):,}"
        place = f'x="{x(edges[i]) + 0.5:.1f}" y="{bottom - size:.1f}" width="{x(edges[i + 1]) - x(edges[i]) - 1:.1f}" height="{size:.1f}"'
        body.append(f'<rect {place} class="bar" data-tip="{escape(tip)}"/>')
    ticks = [float(np.log10(m * 10.0**e)) for e in range(int(np.floor(low)), int(np.ceil(high)) + 1) for m in (1, 2, 5)] if log else _ticks(low, high)
    body += [text(x(tick), bottom + 16, shown(tick), "middle", "tick") for tick in ticks if low <= tick <= high]
    body.append(text(width - 20, bottom + 34, unit, "end", "tick"))
    for number, share in enumerate(quantiles):
        value = float(np.quantile(values, share))
        at = x(min(float(np.log10(value)) if log else value, high))
        near = at > width - 130
        words = text(at + (-5 if near else 5), 14 + 14 * number, f"p{share * 100:g} {value:.3g} {unit}", "end" if near else "start", "note")
        body += [line(at, 6, at, bottom, "quantile"), words]
    return frame(height, body, f"histogram, {unit}", width)


def heat_map(features: Sequence[str], weeks_ms: Float64, psi: Float64, rows: int = 60) -> str:
    """PSI of features (rows, the most shifted first) by week (columns), on a five-step scale.

    Parameters
    ----------
    psi : float64 array, shape (features, weeks)
        NaN where nothing was compared.
    """
    if not len(features) or not np.isfinite(psi).any():
        return '<p class="none">No window was compared with a reference.</p>'
    means = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else -1.0 for row in psi])
    order = np.argsort(-means, kind="stable")[:rows]
    left, cell, top = 230.0, 15.0, 8.0
    width = (_WIDTH - left - _RIGHT) / len(weeks_ms)
    bottom = top + cell * len(order)
    body = []
    for place, row in enumerate(order):
        y = top + cell * place
        body.append(text(left - 8, y + 11.5, features[row], "end", "tick mono"))
        for column, value in enumerate(psi[row]):
            step = next(i for i, (bound, _) in enumerate(HEAT_STEPS) if value < bound or bound == float("inf")) if np.isfinite(value) else -1
            tip = f"{features[row]}\nweek of {day(weeks_ms[column])}\n" + (f"PSI {value:.3f}" if step >= 0 else "not compared")
            box = f'x="{left + width * column:.1f}" y="{y:.1f}" width="{width - 1:.1f}" height="{cell - 1:.1f}"'
            body.append(f'<rect {box} class="{f"heat h{step}" if step >= 0 else "heat none"}" data-tip="{escape(tip)}"/>')
    for at, name in _months(float(weeks_ms[0]), float(weeks_ms[-1])):
        column = int(np.searchsorted(weeks_ms, at, side="right")) - 1
        body.append(text(left + width * column, bottom + 16, name, "start", "tick"))
    return frame(bottom + 24, body, "population stability index by feature and week")
