"""What to do with a run that has just started: lines that can be copied into another terminal."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.last_run import UP
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.observability.redaction import redacted

_SUBSCRIBER = Path("examples/subscribers/predictions.py")


def first_steps(application: Path, plan: Plan, environment: Mapping[str, str], gateway: str, now_ms: int, place: Path) -> list[str]:
    """Return commands: publish one event, read the predictions, recompute the run, which lies in `place`."""
    ask = next(iter(plan.models.values())).ask if plan.models else next(iter(plan.streams))
    event = written_example(application, plan.streams[ask], now_ms) or example_event(plan.streams[ask], now_ms)
    lines = []
    if event is not None:
        lines.append(f"curl -s -H 'content-type: application/json' -d {shlex.quote(json.dumps(event))} {gateway}/v1/events/{ask}")
    addresses = " ".join(f"{name}={shlex.quote(redacted(environment[name]))}" for name in VARIABLES[:2])
    if _SUBSCRIBER.is_file():
        lines.append(f"{addresses} {_command('python')} {_SUBSCRIBER} {plan.application.app}")
    run = "" if place == UP / plan.application.app else f" --run {shlex.quote(str(place))}"
    return [*lines, f"{_command('tidemill')} audit {shlex.quote(str(application))}{run}"]


def _command(name: str) -> str:
    """Return a command of this environment as it can be called from this folder."""
    place = Path(sys.executable).parent / name
    return shlex.quote(str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place))


def written_example(application: Path, stream: StreamPlan, now_ms: int) -> dict[str, Any] | None:
    """Return the event in the application's ``examples/STREAM.json``, which `tidemill init` writes, as a new one of now; None where there is none."""
    file = application / "examples" / f"{stream.name}.json"
    if not file.is_file() or stream.event_id is None:
        return None
    event: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    identity = event.get(stream.event_id)
    return {**event, stream.event_id: f"{identity}-{now_ms % 100_000}" if isinstance(identity, str) else now_ms, stream.event_time: now_ms}


def example_event(stream: StreamPlan, now_ms: int) -> dict[str, Any] | None:
    """Return an event as the stream's schema has it, with values that mean nothing; None where a required field is of a type that is not so simple.

    What the application expects of values (`expect`) is not known here: a check may refuse it.
    """
    event: dict[str, Any] = {}
    for field in stream.user_arrow:
        value = _value(field.type, field.name, now_ms)
        if value is not None:
            event[field.name] = value
        elif not field.nullable:
            return None
    return event


def _value(kind: pa.DataType, name: str, now_ms: int) -> object:
    """Return a value of a type; None for what has no obvious one."""
    if pa.types.is_string(kind):
        return f"{name[:1].upper()}{now_ms % 100_000}" if name.endswith("_id") else "EUR" if name == "currency" else "A1"
    if pa.types.is_boolean(kind):
        return False
    if pa.types.is_floating(kind):
        return 10.0
    if pa.types.is_timestamp(kind):
        return now_ms * {"ms": 1, "us": 1_000}.get(kind.unit, 1)
    return 1 if pa.types.is_integer(kind) else None
