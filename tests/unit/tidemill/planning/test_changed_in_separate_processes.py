"""Ingestion, features and scoring as separate processes are changed with requests between them: none is lost, doubled or answered amiss."""

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.tidemill.planning.one_process import APP, COUNTED, SECOND, OneProcess, write
from tests.unit.tidemill.planning.separate_processes import ORDER, KilledError, SeparateProcesses
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.application_copy import keep_application
from tidemill.runs.change_desk import ChangeRefusedError
from tidemill.runs.former_requests import answer_former_requests
from tidemill.runs.instance import InstanceError
from tidemill.runs.path_backlog import PathBacklog, former_application, patiently
from tidemill.runs.settings import CommandSettings
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.progress import Progress

CHANGED = APP.replace(*COUNTED).replace("fallback: {default: 0.1}", "fallback: {default: 0.2}") + SECOND
# Each of three ends when it has covered the one before, then each of four begins.
STEPS = 3 + len(ORDER)


def begun(folder: Path) -> tuple[SeparateProcesses, Path, Path]:
    run, before, after = SeparateProcesses(folder), write(folder / "app-before"), write(folder / "app-after", CHANGED)
    run.resume(before)
    run.on_the_way()
    return run, before, after


def check_answers(run: SeparateProcesses) -> list[bool]:
    """Hold all answers to what each application says; returns of every request whether the changed one has answered it."""
    run.on_the_way()
    run.rest()
    predictions = run.records("meters-predictions", "prediction")
    answers = Counter((one["model"], one["request_id"]) for one in predictions)
    assert set(answers.values()) == {1}, "doubled"
    served = {one["request_id"]: one["score"] for one in predictions if one["model"] == "faulty"}
    assert set(served) == {f"r{i}" for i in range(run._rows)}, "lost"
    heat = {request for model, request in answers if model == "heat"}
    assert heat == {request for request, score in served.items() if score == 0.2}, "the added model answers what the changed fallback answers"
    audited = run.audit()
    assert audited.result.clean, audited.result.examples
    assert audited.result.vectors_compared == run._rows and audited.result.predictions_compared == len(predictions)
    return [f"r{i}" in heat for i in range(run._rows)]


def test_requests_on_the_way_are_answered_by_the_application_that_they_came_under(tmp_path: Path) -> None:
    run, before, after = begun(tmp_path)
    assert run.apply(before, after) == STEPS
    changed = check_answers(run)
    assert changed == sorted(changed) and len(run.records("meters-view-switches", "view-switch")) == 2
    # What ingestion had written until it ended is the former application's: all but what users wrote after its last step.
    assert changed.index(True) >= 6


def killed(folder: Path, step: int) -> tuple[SeparateProcesses, Path, Path]:
    run, before, after = begun(folder)
    with pytest.raises(KilledError):
        run.apply(before, after, kill_at=step)
    return run, before, after


@pytest.mark.parametrize("step", range(STEPS))
def test_a_run_killed_between_any_two_steps_completes_the_change_when_it_is_started_with_it(tmp_path: Path, step: int) -> None:
    run, _, after = killed(tmp_path, step)
    run.resume(after)
    assert check_answers(run)[-1]


def test_what_a_killed_run_had_in_its_journal_is_answered_by_the_application_of_that_time(tmp_path: Path) -> None:
    run, before, after = SeparateProcesses(tmp_path), write(tmp_path / "app-before"), write(tmp_path / "app-after", CHANGED)
    run.resume(before)
    run.send(3, "ingestion", "features", "scoring")
    run.send(3, "ingestion")
    run.kill()
    run.resume(after)
    assert check_answers(run)[:7] == [False] * 6 + [True]


def test_one_process_leaves_nothing_on_the_way(tmp_path: Path) -> None:
    run = OneProcess(tmp_path)
    run.start(write(tmp_path / "app"))
    run.publish(20)
    with closing(PathBacklog(run.plan, run.broker, run.registry)) as backlog:
        assert backlog.applications("features") == backlog.applications("scoring") == {run.plan.application_hash}
        assert not backlog.waits("features") and not backlog.waits("scoring") and former_application(backlog, "another") is None


def test_a_run_without_a_copy_of_what_has_to_answer_says_what_to_do(tmp_path: Path) -> None:
    run, _, after = begun(tmp_path)
    run.kill()
    plan = load_plan(after)

    def answer() -> None:
        servers = Infrastructure.given("kafka:9092", "http://registry", "redis://redis")
        answer_former_requests(plan, tmp_path / "run", "live", servers, CommandSettings(), run.broker, run.registry, lambda: True)

    keep_application(after, tmp_path / "run")
    answer()  # A run that never had another application is not asked.
    keep_application(write(tmp_path / "third", CHANGED.replace("0.2", "0.3")), tmp_path / "run")
    with pytest.raises(InstanceError, match=f"requests wait that application {run.plan.application_hash[:12]} has to answer"):
        answer()


def test_what_was_set_aside_at_the_end_waits_for_nobody(tmp_path: Path) -> None:
    run, _, _ = begun(tmp_path)
    run.rest()
    topic, journal = run.plan.topics.progress("features"), TopicPartition(run.plan.topics.journal, 0)
    codec = message_codec(run.registry, topic, "progress")
    last = Progress.decode(run.values(topic)[-1], codec)
    run.send(3, "ingestion")
    with closing(run.backlog()) as backlog:
        assert backlog.waits("features")
        new = [offset for records in run.broker.reader().read(journal, last.input_offsets[journal]) for offset in records.offsets.tolist()]
        for count in (len(new) - 1, len(new)):
            condemned = replace(last, quarantined=frozenset((journal.topic, 0, offset) for offset in new[:count]))
            run.broker.sink().publish(topic, last.key, condemned.encode(codec), 0, 0)
            assert backlog.waits("features") == (count < len(new))


def test_a_broker_that_gives_no_answer_now_is_asked_again() -> None:
    looks: list[int] = []

    def ask() -> int:
        if len(looks) < 2:
            raise TransientError("a transaction is open")
        return 7

    assert patiently(ask, lambda: looks.append(1)) == 7 and len(looks) == 2


@pytest.mark.parametrize("step", [2, 4, STEPS - 1])
def test_one_that_is_started_with_what_it_had_is_changed_by_applying_it_again(tmp_path: Path, step: int) -> None:
    run, before, after = killed(tmp_path, step)
    run.resume(before)
    run.on_the_way()
    run.apply(before, after)
    assert check_answers(run)[-1]


@pytest.mark.parametrize("name", ORDER)
def test_one_that_does_not_come_puts_all_of_them_back(tmp_path: Path, name: str) -> None:
    run, before, after = begun(tmp_path)
    run.fails = lambda failing, content: failing == name and content == after
    with pytest.raises(ChangeRefusedError, match=f"{name} did not come up"):
        run.apply(before, after)
    assert set(run.reads.values()) == {before}
    assert not check_answers(run)[-1]
