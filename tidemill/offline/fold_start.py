"""Where a fold over the archived journal may begin: at the beginning, at a snapshot, or, for windows only, the longest reach before the range."""

from tidemill.services.features.domain.kernels.layout_planning import plan_layout
from tidemill.shared.application.plan import Plan, ViewPlan


class StartRefusedError(RuntimeError):
    """A fold that began there would give other features than were served (crash): the message says why, and where it may begin."""


def unbounded(plan: Plan) -> list[str]:
    """Say of every view (and reference stream) that looks back without bound why it does."""
    reasons = [reason for view in plan.views if (reason := _reason(plan, view)) is not None]
    joined = dict.fromkeys(feature.source for feature in plan.features if feature.origin == "reference")
    return reasons + [f"reference stream {name} keeps its latest row for as long as none follows" for name in joined]


def longest_reach_ms(plan: Plan) -> int:
    """Return how far the longest window looks back; only for plans in which nothing is unbounded."""
    return max((_reach_ms(plan, view) for view in plan.views), default=0)


def check_start(plan: Plan, start_ms: int, from_ms: int | None) -> None:
    """Refuse a start in the middle of the journal unless nothing before it can show in the range.

    Windows are then complete, so counts, minima, maxima and distinct values are those that were served; sums, means and spreads may differ
    in their last digits, because their running sums had another past.

    Raises
    ------
    StartRefusedError
        A view is unbounded, or the range begins too early.
    """
    if reasons := unbounded(plan):
        raise StartRefusedError(
            f"expected a start at the beginning of the journal or from a state snapshot, because {'; '.join(reasons)}; "
            "leave --start out, or give --from-state"
        )
    reach = longest_reach_ms(plan)
    if from_ms is None or from_ms < start_ms + reach:
        raise StartRefusedError(
            f"expected a range that begins at {start_ms + reach} (journal time, ms) or later: the longest window reaches back "
            f"{reach / 1000:g} s from it to the start at {start_ms}; it begins at {'the start' if from_ms is None else from_ms}; "
            "move --from, or --start"
        )


def _reach_ms(plan: Plan, view: ViewPlan) -> int:
    return plan_layout(view, plan.streams[view.source].allowed_lateness_ms).state.reach_ms


def _reason(plan: Plan, view: ViewPlan) -> str | None:
    if view.join is not None:
        return f"view {view.name} joins requests of up to {view.join.within_ms / 1000:g} s before with what they led to"
    # A session goes on for as long as no gap ends it, so its length is no bound.
    session = next((a.feature for a in view.aggregates if a.window is not None and a.window.kind == "session"), None)
    if session is not None:
        return f"view {view.name} has sessions ({session}), which are as long as nothing ends them"
    if _reach_ms(plan, view) < 0:
        ever = next(
            a.feature for a in view.aggregates if (a.window is None and a.kind != "ratio") or (a.window is not None and a.window.kind == "all")
        )
        return f"view {view.name} looks at the whole history ({ever})"
    return None
