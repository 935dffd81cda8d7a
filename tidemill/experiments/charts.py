"""Charts of an experiment: plain SVG in the colours of the reports' pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from tidemill.demo.charts import frame, line, text

_WIDTH, _HEIGHT = 1080.0, 360.0
_STEPS = 5


@dataclass(frozen=True, slots=True)
class Point:
    """One trial on a chart.

    Attributes
    ----------
    group
        What its colour stands for.
    tip
        Shown when it is pointed at.
    """

    x: float
    y: float
    group: int
    tip: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of parallel coordinates: a number or a word for each trial; None where the trial has none.

    Attributes
    ----------
    log
        Whether numbers lie logarithmically.
    """

    name: str
    values: Sequence[float | str | None]
    log: bool = False


def scatter(points: Sequence[Point], x_name: str, y_name: str) -> str:
    """A point for each trial, x logarithmic."""
    if not points:
        return '<p class="none">No trial was done.</p>'
    width, left, right, top, bottom = 530.0, 64.0, 514.0, 14.0, 300.0
    xs, ys = np.array([math.log10(max(point.x, 1e-3)) for point in points]), np.array([point.y for point in points])
    x_low, x_high = _padded(xs)
    y_low, y_high = _padded(ys)

    def x(value: float) -> float:
        return left + (value - x_low) / (x_high - x_low) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - top)

    body = [line(left, bottom, right, bottom, "axis")]
    for tick in np.linspace(y_low, y_high, _STEPS)[1:-1]:
        body += [line(left, y(tick), right, y(tick), "grid"), text(left - 8, y(tick) + 4, f"{tick:.4g}", "end", "tick")]
    marks = [math.log10(m * 10.0**e) for e in range(-3, 6) for m in (1, 2, 5)]
    marks = [mark for mark in marks if x_low <= mark <= x_high] or [float(xs.mean())]
    body += [text(x(mark), bottom + 18, f"{10**mark:.3g}", "middle", "tick") for mark in marks]
    body.append(text(right, bottom + 38, x_name, "end", "tick") + text(left, top - 2, y_name, "start", "tick"))
    for point, at in zip(points, xs, strict=True):
        mark = " marked" if point.marked else ""
        body.append(
            f'<circle cx="{x(at):.1f}" cy="{y(point.y):.1f}" r="{7 if point.marked else 5}" class="dot g{point.group % 8}{mark}"'
            f' data-tip="{escape(point.tip)}"/>'
        )
    return frame(bottom + 46, body, f"{y_name} against {x_name}", width)


def curves(lines: Sequence[tuple[str, Sequence[Sequence[float]], int, tuple[float, float] | None]]) -> str:
    """Precision over recall; of each line its name, points (recall, precision, ...), colour and the point that is marked."""
    if not lines:
        return '<p class="none">A regression has neither precision nor recall.</p>'
    left, right, top, bottom = 46.0, 514.0, 14.0, 300.0

    def x(recall: float) -> float:
        return left + recall * (right - left)

    def y(precision: float) -> float:
        return bottom - precision * (bottom - top)

    body = [line(left, bottom, right, bottom, "axis")]
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        body += [line(left, y(share), right, y(share), "grid"), text(left - 8, y(share) + 4, f"{share:g}", "end", "tick")]
        body.append(text(x(share), bottom + 18, f"{share:g}", "middle", "tick"))
    for name, points, group, best in lines:
        path = "".join(f"{'L' if i else 'M'}{x(point[0]):.1f} {y(point[1]):.1f}" for i, point in enumerate(points))
        body.append(f'<path d="{path}" class="curve s{group % 8}" data-tip="{escape(name)}"/>')
        if best is not None:
            tip = f"{name}\nrecall {best[0]:.3f}, precision {best[1]:.3f}: the largest F1"
            body.append(f'<circle cx="{x(best[0]):.1f}" cy="{y(best[1]):.1f}" r="6" class="dot g{group % 8}" data-tip="{escape(tip)}"/>')
    body.append(text(right, bottom + 38, "recall", "end", "tick") + text(left, top - 2, "precision", "start", "tick"))
    return frame(bottom + 46, body, "precision over recall", 530.0)


def parallel(axes: Sequence[Axis], groups: Sequence[int], tips: Sequence[str]) -> str:
    """A line for each trial through its value on every axis; a value that a trial does not have lies at the foot."""
    if not groups:
        return '<p class="none">No trial was done.</p>'
    top, bottom, foot = 48.0, _HEIGHT - 50, _HEIGHT - 18
    step = (_WIDTH - 130) / max(1, len(axes) - 1)
    places, body = [], []
    for number, axis in enumerate(axes):
        x = 60 + step * number
        heights, marks = _heights(axis)
        places.append([foot if height is None else bottom - height * (bottom - top) for height in heights])
        body += [line(x, top, x, bottom, "axis"), text(x, top - 26 + 13 * (number % 2), axis.name, "middle", "note")]
        body += [text(x + 6, bottom - height * (bottom - top) + 4, words, "start", "tick halo") for height, words in marks]
        if any(height is None for height in heights):
            body.append(text(x, foot + 14, "none", "middle", "tick"))
    lines = []
    for trial, (group, tip) in enumerate(zip(groups, tips, strict=True)):
        path = "".join(f"{'L' if i else 'M'}{60 + step * i:.1f} {places[i][trial]:.1f}" for i in range(len(axes)))
        lines.append(f'<path d="{path}" class="coordinate q{group}" data-tip="{escape(tip)}"/>')
    # The best ones last: they lie on top.
    order = sorted(range(len(lines)), key=lambda place: -groups[place])
    return frame(_HEIGHT, [*(lines[place] for place in order), *body], "parallel coordinates of all trials")


def _heights(axis: Axis) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Return where each trial lies on an axis, from 0 to 1, and what is written beside it."""
    words = [value for value in axis.values if isinstance(value, str)]
    if words:
        names = sorted(set(words))
        scale = {name: (place + 0.5) / len(names) for place, name in enumerate(names)}
        return [scale[value] if isinstance(value, str) else None for value in axis.values], [(scale[name], name) for name in names]
    numbers = [float(value) for value in axis.values if value is not None and not isinstance(value, str)]
    logs = axis.log and min(numbers, default=0.0) > 0
    scaled = [math.log(value) if logs else value for value in numbers]
    low, high = (min(scaled), max(scaled)) if scaled else (0.0, 1.0)
    span = high - low

    def height(value: float) -> float:
        return ((math.log(value) if logs else value) - low) / span if span else 0.5

    ends = [0.0, 0.5, 1.0] if span else [0.5]
    marks = [(end, f"{math.exp(low + end * span) if logs else low + end * span:.4g}") for end in ends] if scaled else []
    return [None if value is None or isinstance(value, str) else height(float(value)) for value in axis.values], marks


def _padded(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.1
    return low - margin, high + margin
