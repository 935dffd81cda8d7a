"""Windows and half-lives: what the engine computes over, and how feature names write them."""

from typing import cast

from tidemill.shared.application.plan import WindowPlan
from tidemill.shared.application.view_definition import Window


def duration_text(milliseconds: int) -> str:
    """Return a duration as feature names write it."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0 and (unit != "d" or milliseconds >= 2 * size):
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def half_life_text(half_life_ms: int | None, events: float | None) -> str:
    """Return a half-life as feature names write it."""
    return duration_text(half_life_ms) if half_life_ms is not None else f"{events:g}events".replace(".", "_")


def window_plan(window: Window, resolution_ms: int | None) -> WindowPlan:
    """Resolve a window; `resolution_ms` is the view's."""
    if window.all:
        return WindowPlan("all", 0, 0, "all")
    if window.session is not None:
        return WindowPlan("session", window.session, 0, f"session_{duration_text(window.session)}")
    if window.tumbling is not None:
        return WindowPlan("sliding", window.tumbling, window.tumbling, f"tumbling_{duration_text(window.tumbling)}")
    if window.hopping is not None and window.every is not None:
        text = f"hopping_{duration_text(window.hopping)}_{duration_text(window.every)}"
        return WindowPlan("sliding", window.hopping, window.every, text)
    length = cast(int, window.sliding)
    return WindowPlan("sliding", length, window.resolution or resolution_ms or 0, duration_text(length))
