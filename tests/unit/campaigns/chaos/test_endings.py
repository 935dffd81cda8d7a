"""The reasons for which processes end by themselves are read from their logs, and those logs are kept."""

import io
import logging
from pathlib import Path

from campaigns.chaos.endings import endings, keep_logs, reasons
from tidemill.shared.observability.logging import OneLine


def said(stage: str, *messages: tuple[str, str | None]) -> str:
    """Return a process's log; an error is raised and logged as an exception where it comes with "crashed"."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(stage, "0"))
    log = logging.Logger("services")
    log.addHandler(handler)
    for message, error in messages:
        if message == "crashed":
            try:
                raise RuntimeError(error)
            except RuntimeError as problem:
                problem.add_note("closing failed as well: no answer")
                log.exception(message)
        else:
            log.info(message, extra={} if error is None else {"error": error})
    return stream.getvalue()


def test_who_ended_by_itself_is_told_from_who_was_killed(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "0").mkdir(parents=True)
    killed = ("starting", None), ("assigned", None), ("starting", None), ("assigned", None)
    (logs / "0" / "features.log").write_text(said("features", *killed))
    fenced = "FencedError: group shop-7-drift: another has joined"
    (logs / "0" / "drift.log").write_text(
        said("drift", ("starting", None), ("ends", fenced), ("crashed", "group shop-7-drift: another has joined"))
        + '{"time": "cut by a ki\n'
        + said("drift", ("starting", None), ("ends", fenced.replace("7", "12")), ("starting", None), ("crashed", "no settings"))
        + said("drift", ("starting", None), ("stalled: the process ends, to be started again", None), ("starting", None))
    )
    ended = endings(logs)
    assert reasons(ended) == {
        "drift: FencedError: group shop-N-drift: another has joined": 2,
        "drift: RuntimeError: no settings": 1,
        "drift: stalled: the process ends, to be started again": 1,
    }
    keep_logs(ended, logs, tmp_path / "kept")
    assert [path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.log")] == ["0/drift.log"]
