"""A topic that was deleted and made anew is not the one that was read, however long its log has grown: who reads it stops, and says so."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.property.fused_stages import PLAN, System
from tests.property.runner_tasks import APP, STAGE, CountingTask, arguments, codec, expected, output, topics
from tests.unit.shared.runner.runners import INPUT, OUTPUT, REJECTED, filled, quick, steps
from tests.unit.shared.runner.test_refused_outputs import Cluster
from tidemill.shared.log.broker import RecordRefusedError, TopicRemadeError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.runner import topic_identity
from tidemill.shared.runner.progress import Progress, checkpoint_topic
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import TaskInputs
from tidemill.shared.runner.written import TornTransactionError
from tidemill.shared.service.stage import FUSIBLE


def remake(broker: MemoryBroker, topic: str, keys: str = "") -> None:
    broker.delete_topic(topic)
    broker.create_topics(topics(APP, 1))
    for key in keys:
        broker.sink().publish(topic, key.encode(), b"other", 1, 0)


def progress(broker: MemoryBroker) -> Progress:
    value = [value for value in output(broker, f"{APP}-{STAGE}-progress") if value is not None][-1]
    return Progress.decode(value, codec("progress"))


def runner(broker: Any, folder: Path, **settings: Any) -> Runner:
    return Runner(**arguments(APP, broker, settings=quick(folder, topic_check_ms=1, **settings)))


@pytest.mark.parametrize("grown", ["", "xy", "xyz", "xyzxyz"])
def test_an_input_that_was_made_anew_stops_the_stage_at_its_start(tmp_path: Path, grown: str) -> None:
    broker = filled("abc")
    steps(runner(broker, tmp_path))
    before = broker.topic_ids([INPUT]).result()[INPUT]
    assert progress(broker).topic_ids[INPUT] == before
    remake(broker, INPUT, grown)
    after = broker.topic_ids([INPUT]).result()[INPUT]
    with pytest.raises(
        TopicRemadeError, match=rf"{INPUT}: .*id {before}.*id {after}: somebody has deleted it.*ACCEPT_TOPICS='\[\"{INPUT}:{after}\"\]'"
    ):
        steps(runner(broker, tmp_path))
    assert output(broker, OUTPUT) == expected("abc")


def test_an_input_that_is_made_anew_stops_a_stage_that_runs(tmp_path: Path) -> None:
    broker = filled("abc")
    running = steps(runner(broker, tmp_path))
    remake(broker, INPUT, "xyz")
    with pytest.raises(TopicRemadeError, match=f"{INPUT}: "):
        steps(running)
    assert output(broker, OUTPUT) == expected("abc")


@pytest.mark.parametrize("refused", [False, True], ids=["in the task", "as its outputs are written"])
def test_what_crashes_on_an_input_that_was_made_anew_is_told_by_its_topic_and_counted_against_no_record(tmp_path: Path, refused: bool) -> None:
    """Before the next question for the ids is due, the records that came in their place are read."""
    broker = Cluster(says_at_commit=True)
    broker.fill("abc")
    settings = quick(tmp_path, topic_check_ms=3_600_000)
    task = partial(CountingTask, APP, poison=None if refused else b"other")
    running = steps(Runner(**arguments(APP, broker, settings=settings, task_factory=task)))
    remake(broker, INPUT, "xyzxyz")
    broker.trouble = {OUTPUT: RecordRefusedError("refused")} if refused else {}
    with pytest.raises(TopicRemadeError, match=f"{INPUT}: "):
        steps(running)
    assert not list(tmp_path.glob("*.crash.json"))
    running.close()
    assert output(broker, OUTPUT) == expected("abc")


def test_a_topic_of_the_same_records_is_taken_for_its_predecessor_by_declaration(tmp_path: Path) -> None:
    broker = filled("abc")
    steps(runner(broker, tmp_path))
    remake(broker, INPUT, "abcd")
    after = broker.topic_ids([INPUT]).result()[INPUT]
    steps(runner(broker, tmp_path, accept_topics=(f"{INPUT}:{after}",)))
    assert output(broker, OUTPUT) == expected("abcd")
    assert progress(broker).topic_ids[INPUT] == after
    steps(runner(broker, tmp_path))


def test_a_checkpoint_that_was_made_anew_stops_the_stage(tmp_path: Path) -> None:
    broker = filled("abc")
    steps(runner(broker, tmp_path))
    remake(broker, checkpoint_topic(APP, STAGE))
    with pytest.raises(TopicRemadeError, match=checkpoint_topic(APP, STAGE)):
        steps(runner(broker, tmp_path))


def test_the_progress_of_a_stage_behind_the_first_that_was_made_anew_stops_their_process(tmp_path: Path) -> None:
    """No group holds its offsets: it would begin anew, and write everything twice."""
    system = System(tmp_path, 6)
    system.finish(system.runner(FUSIBLE))
    topic = PLAN.topics.progress("scoring")
    system.broker.delete_topic(topic)
    system.broker.create_topics(catalogue_topics("flights", 1))
    before = system.written(PLAN.topics.predictions)
    with pytest.raises(TopicRemadeError, match=topic):
        steps(system.runner(FUSIBLE))
    assert system.written(PLAN.topics.predictions) == before


SOLE, SHARED = TaskInputs((INPUT,), sole_outputs=(OUTPUT,)), TaskInputs((INPUT,), other_outputs=(OUTPUT,))


def writer(broker: MemoryBroker, folder: Path, inputs: TaskInputs, **settings: Any) -> Runner:
    return Runner(**arguments(APP, broker, inputs=inputs, settings=quick(folder, topic_check_ms=1, **settings)))


@pytest.mark.parametrize("grown", ["", "x", "xyzxyzxyz"])
def test_an_output_that_was_made_anew_stops_the_stage_by_its_name_however_long_it_has_grown(tmp_path: Path, grown: str) -> None:
    """One transaction was ever written there, or many."""
    broker = filled("abc")
    before = broker.topic_ids([OUTPUT]).result()[OUTPUT]
    running = steps(writer(broker, tmp_path, SOLE))
    assert progress(broker).topic_ids[OUTPUT] == before
    remake(broker, OUTPUT, grown)
    after = broker.topic_ids([OUTPUT]).result()[OUTPUT]
    told = (
        rf"^{OUTPUT}: .*id {before}, which was written so far.*id {after}: somebody has deleted it.*this stage had written there is gone"
        rf".*ACCEPT_TOPICS='\[\"{OUTPUT}:{after}\"\]'"
    )
    for made in (running, writer(broker, tmp_path, SOLE)):
        with pytest.raises(TopicRemadeError, match=told):
            steps(made)
    broker.sink().publish(INPUT, b"a", b"", 9, 0)
    steps(writer(broker, tmp_path, SOLE, accept_topics=(f"{OUTPUT}:{after}",)))
    assert output(broker, OUTPUT) == [b"other"] * len(grown) + expected("abca")[3:]
    assert progress(broker).topic_ids[OUTPUT] == after
    broker.sink().publish(INPUT, b"b", b"", 9, 0)
    steps(writer(broker, tmp_path, SOLE))
    assert output(broker, OUTPUT)[len(grown) :] == expected("abcab")[3:], "who has accepted it once is asked no more"


def test_an_output_that_others_write_as_well_and_that_was_made_anew_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However long it has grown: that the last outputs are not in it is then no torn transaction."""
    broker = filled("abc")
    steps(writer(broker, tmp_path, SHARED))
    remake(broker, OUTPUT, "xyzxyz")
    broker.sink().publish(INPUT, b"a", b"", 9, 0)
    steps(writer(broker, tmp_path, SHARED))
    assert "an output topic was made anew: what it held is gone" in caplog.text
    assert output(broker, OUTPUT) == [b"other"] * 6 + expected("abca")[3:]


def test_a_record_from_before_outputs_had_ids_is_held_against_the_log_alone(tmp_path: Path) -> None:
    """Of a broker that told no ids, or written by an earlier version."""
    broker = Reserved(filled("abc"))
    broker.is_old = True
    steps(Runner(**arguments(APP, broker, inputs=SOLE, settings=quick(tmp_path))))
    broker.is_old = False
    remake(broker.broker, OUTPUT, "xyz")
    with pytest.raises(TornTransactionError, match=f"found {OUTPUT}:0: of the 3 from offset 0 on 3 are not there"):
        steps(Runner(**arguments(APP, broker, inputs=SOLE, settings=quick(tmp_path))))


class Reserved:
    """A broker that does not say which topics there are."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker, self.silent, self.is_old = broker, 0, False
        self.late: Future[Mapping[str, str]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)

    def topic_ids(self, names: Sequence[str]) -> Future[Mapping[str, str]]:
        if self.late is not None:
            return self.late
        answer: Future[Mapping[str, str]] = Future()
        if self.silent:
            self.silent -= 1
            answer.set_exception(TransientError("no answer"))
        elif self.is_old:
            answer.set_result({})
        else:
            return self.broker.topic_ids(names)
        return answer


def test_a_broker_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    broker = Reserved(filled("abc"))
    broker.silent = 3
    running = steps(runner(broker, tmp_path))
    assert not broker.silent
    assert output(broker.broker, OUTPUT) == expected("abc")
    remake(broker.broker, INPUT, "xyz")
    broker.silent = 3
    with pytest.raises(TopicRemadeError):
        steps(running)
    assert not broker.silent


def test_an_answer_that_does_not_come_holds_no_restore_up_and_counts_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the controller is elected anew nobody says which topics there are."""
    monkeypatch.setattr(topic_identity, "_ANSWER_S", 0.01)
    broker = Reserved(filled("abc"))
    steps(runner(broker, tmp_path))
    remake(broker.broker, INPUT, "xyz")
    broker.late = Future()
    running = steps(runner(broker, tmp_path))
    broker.late.set_result(broker.broker.topic_ids([INPUT]).result())
    with pytest.raises(TopicRemadeError, match=INPUT):
        running.step()


def test_ids_that_a_broker_learns_to_tell_are_no_reason_to_commit(tmp_path: Path) -> None:
    broker = Reserved(filled("abc"))
    broker.is_old = True
    steps(runner(broker, tmp_path))
    before = progress(broker.broker)
    assert before.topic_ids == {}
    broker.is_old = False
    steps(runner(broker, tmp_path))
    assert progress(broker.broker) == before
    broker.broker.sink().publish(INPUT, b"d", b"", 1, 0)
    steps(runner(broker, tmp_path))
    assert progress(broker.broker).topic_ids == broker.topic_ids([INPUT, checkpoint_topic(APP, STAGE), OUTPUT, REJECTED]).result()
