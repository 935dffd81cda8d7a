"""Plans and stores for tests of the online features."""

import shutil
from dataclasses import replace
from pathlib import Path

from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan

FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"
NEW_VIEW = "  route_traffic: {entity: route, source: departures, aggregate: [count], windows: [24h]}\n"


def named(plan: Plan, app: str) -> Plan:
    """Return the plan under an application name of its own."""
    return replace(plan, application=plan.application.model_copy(update={"app": app}))


def changed_plan(folder: Path, old: str, new: str) -> Plan:
    """Return the plan of the flights application with a piece of its file replaced."""
    application = Path(shutil.copytree(FLIGHTS, folder / "changed", dirs_exist_ok=True))
    text = (application / "app.yaml").read_text()
    assert old in text
    (application / "app.yaml").write_text(text.replace(old, new, 1))
    return load_plan(application)


def with_view(folder: Path) -> Plan:
    """Return the plan of the flights application with one view more."""
    return changed_plan(folder, "  route_late:", NEW_VIEW + "  route_late:")


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms
