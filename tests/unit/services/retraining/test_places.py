"""Where there is room for several trainings, models are trained side by side."""

from pathlib import Path

from tests.unit.services.drift.stream import APP
from tests.unit.services.retraining.worker_world import MODEL, Trainer, World, result
from tidemill.services.retraining.processes.job_files import JobRequest
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.task import Places, RetrainingTask

TWO_MODELS = APP + APP[APP.index("  sent_back:") :].replace("sent_back", "sent_late")


def identities(trainer: Trainer) -> list[str]:
    return [asked.retraining["decision_id"][-1] for asked in trainer.asked]


def test_models_are_trained_side_by_side_where_there_is_room_and_one_at_a_time_each(tmp_path: Path) -> None:
    world, other = World(tmp_path, TWO_MODELS), Trainer()
    slots = Slots([world.trainer, other], tells_places=True)
    world.task = RetrainingTask(world.plan, world.registry, slots, world.registrar, Places("app", "lake", "artifacts"))
    for number, model in ((1, MODEL), (2, MODEL), (3, "sent_late")):
        world.request(number, number * 100, model=model)
    world.cover("control", 310)
    world.cover("archive", 310)
    world.step()
    assert (identities(world.trainer), identities(other)) == (["1"], ["3"])
    other.result = result("v3")
    world.step()
    world.step()
    assert (identities(world.trainer), identities(other)) == (["1"], ["3"]), "the second of a model waits for its first"
    world.trainer.result = result("v1")
    world.step()
    world.step()
    assert identities(world.trainer) == ["1", "2"]
    world.trainer.result = result("v2")
    world.step()
    said = [(record["decision_id"][-1], record["event"]) for record in world.said(world.plan.topics.retraining)]
    ends = [("3", "finished"), ("1", "finished"), ("2", "started"), ("2", "finished")]
    assert said == [("1", "started"), ("3", "started"), ("2", "queued"), *ends]
    assert world.last.coverage.time_ms == 310


def test_with_one_place_trainings_run_in_controls_order_also_of_two_models(tmp_path: Path) -> None:
    world = World(tmp_path, TWO_MODELS)
    for number, model in ((1, MODEL), (2, "sent_late"), (3, MODEL)):
        world.request(number, number * 100, model=model)
    world.cover("control", 310)
    world.cover("archive", 310)
    for version in ("v1", "v2", "v3"):
        world.step()
        world.trainer.result = result(version)
        world.step()
    assert identities(world.trainer) == ["1", "2", "3"]


def test_a_training_that_waits_for_a_place_says_which_one_it_has_in_the_queue_once_also_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path, TWO_MODELS)
    for number, model in ((1, MODEL), (2, "sent_late"), (3, MODEL)):
        world.request(number, number * 100, model=model)
    world.cover("control", 310)
    world.cover("archive", 210)

    def queue() -> list[tuple[str, str, str]]:
        said = [record for record in world.said(world.plan.topics.retraining) if record["event"] == "queued"]
        return [(record["decision_id"][-1], record["details"]["place"], record["reason"]) for record in said]

    world.step()
    world.step()
    told = [("2", "1", "1 of 1 places for trainings are taken: place 1 in the queue")]
    assert queue() == told, "the third waits for the archive, not for a place"
    world.cover("archive", 310)
    world.step()
    told += [("3", "2", "another training of the model runs: place 2 in the queue")]
    assert queue() == told
    world.restart()
    world.step()
    world.step()
    assert queue() == told and identities(world.trainer) == ["1"]
    world.trainer.result = result("v1")
    world.step()
    world.step()
    assert queue() == [*told, ("3", "1", "1 of 1 places for trainings are taken: place 1 in the queue")]
    for version in ("v2", "v3"):
        world.trainer.result = result(version)
        world.step()
        world.step()
    events = [(record["decision_id"][-1], record["event"]) for record in world.said(world.plan.topics.retraining)]
    assert [one for one in events if one[1] == "finished"] == [("1", "finished"), ("2", "finished"), ("3", "finished")]


def test_a_place_whose_training_somebody_else_has_answered_is_free_again(tmp_path: Path) -> None:
    first, second = Trainer(), Trainer()
    slots = Slots([first, second])
    ask = {number: JobRequest("a", "l", "m", {"decision_id": number, "model": "m", "journal_time": 0}, "", "") for number in ("1", "2", "3")}
    slots.start(ask["1"])
    slots.start(ask["2"])
    slots.start(ask["1"])
    assert (identities(first), identities(second)) == (["1", "1"], ["2"]), "a training that runs gets no twin"
    assert not slots.takes("3")
    slots.retain(["2"])
    slots.start(ask["3"])
    assert (identities(first), identities(second)) == (["1", "1", "3"], ["2"])
