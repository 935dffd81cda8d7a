"""What goes wrong in a run is named on the screen and in the summary, and ends the command with a code of its own."""

from pathlib import Path
from typing import Any

import pytest
import typer

from tidemill.runs.announcer import Announcer
from tidemill.runs.screen import lag_text, rejected_text
from tidemill.runs.verdict import RunProblem, Standstill, findings
from tidemill.runs.watch import RunState
from tidemill.services.archive.task import FLUSH_MS
from tidemill.services.cli import terminal
from tidemill.shared.application.planning import load_plan
from tidemill.shared.log.flood import Refusals
from tidemill.shared.log.flow import Flow
from tidemill.shared.runner.progress import Progress

PLAN = load_plan(Path(__file__).parents[4] / "examples" / "payments")
NOON = 1_736_164_800_000


def letter(reason: str, offset: int = 7, stage: str = "ingestion") -> dict[str, Any]:
    place = {"source_topic": "payments", "source_partition": 0, "source_offset": offset}
    return {"stage": stage, "reason": reason, "detail": f"expected good, found {reason}\nat length", **place}


def training(event: str, model: str = "fraud", reason: str = "") -> dict[str, Any]:
    return {"event": event, "model": model, "reason": reason, "decision_id": "d1"}


def answered(count: int) -> RunState:
    progress = Progress("scoring", 0, covered_time=NOON, outputs={PLAN.topics.predictions: count})
    return RunState({("scoring", 0): progress})


def test_a_run_without_faults_has_no_findings() -> None:
    assert findings(PLAN, answered(5), requests=5) == []


def test_rejections_fail_beyond_those_that_are_declared_or_allowed() -> None:
    seen = answered(5)
    for offset, reason in enumerate(["invalid_json", "expectation", "invalid_json"]):
        seen.refuse(letter(reason, offset))
    json, expectation = findings(PLAN, seen, requests=5)
    assert (
        json.text
        == "2 records of payments rejected by ingestion as invalid_json: (the first: payments[0] offset 0: expected good, found invalid_json)"
    )
    assert json.fails and not expectation.fails
    assert not any(finding.fails for finding in findings(PLAN, seen, requests=5, allowed=2))
    assert any(finding.fails for finding in findings(PLAN, seen, requests=5, allowed=1))
    assert not any(finding.fails for finding in findings(PLAN, seen, requests=5, allowed=None))
    assert rejected_text(seen) == "2 invalid_json, 1 expectation" and rejected_text(RunState()) == "none"


def test_streams_that_are_paused_or_throttled_are_named_and_a_pause_fails() -> None:
    junk = Flow(Refusals(10_000, 9_000, 9_000, flooded=True), {"invalid_json": 12_000, "truncated": 3})
    topics = {name: PLAN.streams[name].topic for name in ("payments", "chargebacks")}
    said: list[str] = []
    announcer = Announcer(PLAN, said.append)

    def seen(*flows: dict[str, Flow]) -> RunState:
        return RunState({("ingestion", p): Progress("ingestion", p, covered_time=NOON, flows=one) for p, one in enumerate(flows)})

    both = seen({topics["payments"]: junk.paused(NOON), topics["chargebacks"]: junk}, {topics["payments"]: junk.paused(NOON)})
    announcer.look(both, {}, 0.0)
    announcer.look(both, {}, 1.0)
    assert len(said) == 3 and "stream payments is paused in partition 0: 24,006 of its records were rejected so far (invalid_json 24,000" in said[0]
    assert "tidemill resume APPLICATION payments" in said[0] and "stream chargebacks is throttled in partition 0" in said[1]
    paused, throttled = announcer.summary(both)
    assert "payments is paused in partition 0, 1" in paused.text and paused.fails and not throttled.fails
    announcer.look(seen({topics["payments"]: junk.paused(NOON).resumed()}, {topics["payments"]: junk.paused(NOON)}), {}, 2.0)
    assert sorted(said[3:]) == ["stream chargebacks goes on in partition 0", "stream payments goes on in partition 0"]


def test_records_that_crash_a_stage_fail_whatever_is_allowed() -> None:
    seen = answered(5)
    seen.refuse(letter("quarantined", stage="features"))
    (finding,) = findings(PLAN, seen, requests=5, allowed=None)
    assert finding.fails and finding.text.startswith("1 record of payments set aside because they crash features (the first: payments[0] offset 7")


def test_trainings_that_failed_are_named_with_their_reason() -> None:
    seen = answered(5)
    seen.retraining += [training("started"), training("failed", reason="Input contains NaN\ntrace"), training("started"), training("finished")]
    seen.retraining += [training("failed", "other", "no labels")] * 2
    fraud, other = findings(PLAN, seen, requests=5)
    assert (fraud.text, fraud.fails) == ("1 training of fraud failed: Input contains NaN", False)
    assert (other.text, other.fails) == ("2 trainings of other failed: no labels", True)


def test_requests_that_nobody_answered_fail() -> None:
    (finding,) = findings(PLAN, answered(0), requests=4)
    assert finding.fails and finding.text == "4 requests were published and none was answered"


def test_lag_is_never_counted_from_1970() -> None:
    seen = RunState({("features", 0): Progress("features", 0, covered_time=-1), ("scoring", 0): Progress("scoring", 0, covered_time=0)})
    assert lag_text(NOON, seen, {}) == "not begun: features, scoring"
    seen.progress["features", 0] = Progress("features", 0, covered_time=NOON - 7_200_000)
    assert lag_text(NOON, seen, {"scoring": 42.4}) == "2 h of event time (features); not begun: scoring; [red]scoring has stood still for 42 s[/red]"
    assert lag_text(NOON, RunState(), {}) == "none"


def test_a_stage_that_is_behind_and_does_not_move_stands_still() -> None:
    stands = Standstill()
    seen = RunState({("features", 0): Progress("features", 0, covered_time=5), ("scoring", 0): Progress("scoring", 0, covered_time=3)})
    assert stands.stages(seen, 0.0) == {} and stands.stages(seen, 30.0) == {}
    assert stands.stages(seen, 31.0) == {"scoring": 31.0}
    seen.progress["scoring", 0] = Progress("scoring", 0, covered_time=4)
    assert stands.stages(seen, 32.0) == {}


def test_the_archive_may_gather_rows_and_retraining_may_train() -> None:
    stands = Standstill()
    seen = RunState({(stage, 0): Progress(stage, 0, covered_time=3) for stage in ("archive", "retraining")})
    seen.progress["features", 0] = Progress("features", 0, covered_time=5)
    assert FLUSH_MS / 1e3 * 2 <= 60.0
    assert stands.stages(seen, 0.0) == {}
    assert stands.stages(seen, 61.0) == {"retraining": 61.0}
    assert stands.stages(seen, 91.0) == {"archive": 91.0, "retraining": 91.0}
    seen.retraining.append(training("started"))
    assert stands.stages(seen, 500.0) == {"archive": 500.0}
    seen.retraining.append(training("finished"))
    assert stands.stages(seen, 520.0) == {"archive": 520.0}
    assert stands.stages(seen, 531.0) == {"archive": 531.0, "retraining": 31.0}


def test_a_run_says_each_kind_of_fault_at_its_first_record_and_at_every_doubling() -> None:
    lines: list[str] = []
    announcer = Announcer(PLAN, lines.append)
    seen = answered(5)
    for offset in range(10):
        seen.refuse(letter("invalid_json", offset))
        announcer.look(seen, {"features": 0}, 0.0)
    assert [line.split(" ")[0] for line in lines] == ["1", "2", "4", "8"]
    assert (
        lines[0] == "1 so far of payments rejected by ingestion as invalid_json, the first: payments[0] offset 0: expected good, found invalid_json"
    )
    seen.retraining.append(training("failed", reason="no labels"))
    announcer.look(seen, {"features": 1}, 0.0)
    announcer.look(seen, {"features": 1}, 0.0)
    assert lines[4:] == [
        "a training of fraud failed: no labels",
        "service features has ended and was started again, 1 times so far; see its log",
    ]
    seen.progress["drift", 0] = Progress("drift", 0, covered_time=5)
    announcer.look(seen, {}, 0.0)
    announcer.look(seen, {}, 40.0)
    assert lines[6:] == ["stage drift has stood still for 40 s while others went on; see its log"]
    summary = announcer.summary(seen)
    assert [finding.fails for finding in summary] == [False, True, True] and "drift stood still" in summary[2].text
    seen.progress["drift", 0] = Progress("drift", 0, covered_time=NOON)
    announcer.look(seen, {}, 41.0)
    assert lines[7:] == ["stage drift goes on"] and len(announcer.summary(seen)) == 2


def test_the_command_names_them_and_ends_with_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.tell([RunProblem("one [training] failed", False)], "The replay")
    with pytest.raises(typer.Exit) as ended:
        terminal.tell([RunProblem("nobody answered", True)], "The replay")
    assert ended.value.exit_code == 3
    said = capsys.readouterr().err
    assert "note one [training] failed" in said and "FAILED nobody answered" in said and "The replay did not go as it must: 1 of the above" in said
