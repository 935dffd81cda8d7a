"""What is known of crashes outlives restarts, kills and torn files."""

from pathlib import Path

import pytest

from tests.property.runner_tasks import records_of
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.crash_log import CrashLog, Span, span_of
from tidemill.shared.runner.death_note import DeathNote, advances

NOTHING = Span(0, {}, {})
HERE, THERE = {TopicPartition("t", 0): 5}, {TopicPartition("t", 0): 6}


def run(*offsets: int) -> Records:
    return records_of("t", 0, [(offset, b"k", b"v") for offset in offsets])


def test_crashes_are_counted_across_restarts_for_each_partition(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "crash.json"
    assert [CrashLog(path).count(0, place, NOTHING, "e").count for place in (HERE, HERE, THERE, THERE, THERE)] == [1, 2, 1, 2, 3]
    assert CrashLog(path).count(1, HERE, Span(3, {"t:1": 7}, {"t:1": 9}), "e").count == 1
    again = CrashLog(path)
    assert [(crash.partition, crash.count) for crash in again] == [(0, 3), (1, 1)]
    again.clear(0)
    assert CrashLog(path).of(0) is None
    again.clear(1)
    assert not path.exists()


def test_crashes_on_the_same_records_add_up_wherever_the_task_stood(tmp_path: Path) -> None:
    log = CrashLog(tmp_path / "crash.json")
    places = [{TopicPartition("t", 0): offset} for offset in (1, 2, 3, 4, 5)]
    steps = [run(7, 8, 9), run(9, 10, 11), run(4, 5, 9), run(10, 11), run(12)]
    assert [log.count(0, place, span_of([step]), "e").count for place, step in zip(places, steps, strict=True)] == [1, 2, 3, 1, 1]
    assert log.count(0, places[0], span_of([records_of("other", 0, [(12, b"k", b"v")])]), "e").count == 1


@pytest.mark.parametrize("text", ['{"crashes": [{"partition": 0', "", "[]", '{"crashes": [{"x": 1}]}', "\x00\xff"])
def test_a_torn_file_is_set_aside_and_stops_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "crash.json"
    path.write_bytes(text.encode("latin-1"))
    log = CrashLog(path)
    assert len(log) == 0 and (tmp_path / "crash.json.unreadable").exists()
    log.count(0, HERE, NOTHING, "e")
    assert len(CrashLog(path)) == 1


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    log = CrashLog(tmp_path / "state" / "crash.json")
    assert log.count(0, HERE, NOTHING, "e").count == 1
    note = DeathNote(tmp_path / "state" / "x.note")
    note.begin(0, 0, 1, [run(1)])
    note.done()
    assert note.death is None


def test_a_note_says_what_a_process_died_in(tmp_path: Path) -> None:
    path = tmp_path / "x.note"
    note = DeathNote(path)
    assert note.death is None
    note.begin(2, 7, 41, [run(5, 6), run(9)])
    note.advanced()
    death = DeathNote(path).death
    assert death is not None
    assert (death.stage, death.partition, death.sequence, death.step) == (2, 7, 41, Span(3, {"t:0": 5}, {"t:0": 9}))
    assert not death.held and not death.restoring
    assert DeathNote(path).death is None, "said once"
    note.begin(0, 0, 1, [run(5)], {TopicPartition("t", 0): 8})
    held = DeathNote(path).death
    assert held is not None and held.step.ends == {"t:0": 5} and held.held == {"t:0": 8}
    note.begin(0, 0, 1)
    note.done()
    assert DeathNote(path).death is None
    assert advances(path) == 1 and advances(tmp_path / "none") == 0


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"tidemil1" + b"\xff" * 16376])
def test_a_note_that_is_not_one_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.note"
    path.write_bytes(content)
    assert DeathNote(path).death is None
