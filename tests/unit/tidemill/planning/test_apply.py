"""A change that is refused or fails changes nothing: at each step, and for each reason."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from tests.patience import patient
from tests.unit.tidemill.planning.changed import EXAMPLE, SECOND_MODEL, changed
from tidemill.planning.application_plan import PlanFileError
from tidemill.planning.apply import check_plan
from tidemill.planning.make_plan import make_plan
from tidemill.planning.running_application import RunningApplication, of_folder, of_run
from tidemill.planning.take_over import switch_all
from tidemill.runs.application_copy import keep_application
from tidemill.runs.change_desk import ChangeDesk, ChangeRefusedError
from tidemill.runs.former_requests import RunEndedError
from tidemill.runs.instance import Instance
from tidemill.runs.supervisor import ServiceFailed
from tidemill.services.cli.__main__ import app
from tidemill.shared.models.deployments import ModelDeployment

LAST = "holdout_days: 3, min_rows: 1500}"
ORDER = ("fused", "outcomes", "drift", "control", "retraining", "archive", "gateway", "alerts")


class Services:
    """Processes that come up with any application but, one of them, with the changed one."""

    def __init__(self, fails: str = "", fails_always: str = "", order: Sequence[str] = ORDER) -> None:
        self.reads: dict[str, Path | None] = dict.fromkeys(order, Path("before"))
        self._fails, self._fails_always = fails, fails_always
        self._crashed = ""

    def switch(self, name: str, content: Path) -> None:
        self._crashed = "" if name == self._crashed else self._crashed
        self._look()
        self.reads[name] = content
        if name == self._fails_always or (name == self._fails and content == Path("after")):
            self._crashed = name
        self._look()

    def wait_covered(self, name: str) -> None:
        self._look()

    def end(self, name: str) -> None:
        self.reads[name] = None
        self._crashed = "" if name == self._crashed else self._crashed

    def _look(self) -> None:
        """Look after all of them, as everybody does who waits for one: a supervisor tells again and again of one that it has given up."""
        if self._crashed:
            raise ServiceFailed(f"service {self._crashed} ended with 1")


def switch(services: Services, order: Sequence[str] = ORDER) -> list[str]:
    said: list[str] = []
    switch_all(services, order, Path("before"), Path("after"), said.append)
    return said


def test_every_service_takes_over_in_the_order_of_the_data() -> None:
    services = Services()
    assert [line.split()[0] for line in switch(services)] == list(ORDER)
    assert set(services.reads.values()) == {Path("after")}


@pytest.mark.parametrize("step", ORDER)
def test_a_service_that_does_not_come_puts_all_of_them_back(step: str) -> None:
    services = Services(fails=step)
    with pytest.raises(ChangeRefusedError, match=f"{step} did not come up .* goes on with the one it had"):
        switch(services)
    assert set(services.reads.values()) == {Path("before")}


SEPARATE = ("ingestion", "features", "scoring", *ORDER[1:])


def test_separate_processes_end_in_the_order_of_the_data_and_begin_in_the_other() -> None:
    services = Services(order=SEPARATE)
    said = switch(services, SEPARATE)
    assert [line.split()[0] for line in said] == ["ingestion", "features", "scoring", "scoring", "features", "ingestion", *ORDER[1:]]
    assert ["ends when it has covered" in line for line in said].count(True) == 3 and set(services.reads.values()) == {Path("after")}


@pytest.mark.parametrize("step", SEPARATE)
def test_a_separate_process_that_does_not_come_puts_all_of_them_back(step: str) -> None:
    services = Services(fails=step, order=SEPARATE)
    with pytest.raises(ChangeRefusedError, match=f"{step} did not come up"):
        switch(services, SEPARATE)
    assert set(services.reads.values()) == {Path("before")}


def test_one_that_never_covers_what_was_written_for_it_changes_nothing() -> None:
    class Slow(Services):
        def wait_covered(self, name: str) -> None:
            if name == "features" and self.reads[name] == Path("before"):
                raise ServiceFailed("service features has not covered what was written for it after 900 s")

    services = Slow(order=SEPARATE)
    with pytest.raises(ChangeRefusedError, match="has not covered"):
        switch(services, SEPARATE)
    assert set(services.reads.values()) == {Path("before")}


def test_a_run_that_is_ended_meanwhile_puts_nothing_back() -> None:
    class Ending(Services):
        def switch(self, name: str, content: Path) -> None:
            super().switch(name, content)
            if name == "drift":
                raise RunEndedError("the run was ended")

    services = Ending()
    with pytest.raises(RunEndedError):
        switch(services)
    assert [name for name, reads in services.reads.items() if reads == Path("after")] == ["fused", "outcomes", "drift"]


def test_one_that_does_not_come_back_either_ends_the_run() -> None:
    with pytest.raises(ServiceFailed, match="drift"):
        switch(Services(fails_always="drift"))


def test_a_plan_holds_for_one_application_and_one_state_of_the_run(tmp_path: Path) -> None:
    more = changed(tmp_path / "more", (LAST, LAST + SECOND_MODEL))
    running = of_folder(EXAMPLE)
    text = json.dumps(make_plan(running, more).as_json())
    assert check_plan(running, more, text).verdict == "changes"
    with pytest.raises(ChangeRefusedError, match="edited since"):
        check_plan(running, changed(tmp_path / "edited", (LAST, LAST + SECOND_MODEL), ("trials: 4", "trials: 3")), text)
    with pytest.raises(ChangeRefusedError, match="is not what the plan was made for"):
        check_plan(of_folder(changed(tmp_path / "other", ("trials: 4", "trials: 3"))), more, text)
    with pytest.raises(ChangeRefusedError, match="partitions: 1 cannot become 4"):
        check_plan(running, changed(tmp_path / "refused", ("partitions: 1", "partitions: 4")), None)
    for bad in ("", "[]", "{}", json.dumps({**json.loads(text), "format": 2})):
        with pytest.raises(PlanFileError, match="plan"):
            check_plan(running, more, bad)


def test_another_champion_of_a_model_that_changes_is_another_state(tmp_path: Path) -> None:
    edited = changed(tmp_path / "edited", ("trials: 4", "trials: 3"))
    before = of_folder(EXAMPLE)

    def with_champion(version: str) -> RunningApplication:
        return RunningApplication(EXAMPLE, before.plan, before.content, {"fraud": ModelDeployment(version, "0" * 64, 1, 0.5)})

    text = json.dumps(make_plan(with_champion("v1"), edited).as_json())
    assert check_plan(with_champion("v1"), edited, text).verdict == "changes"
    with pytest.raises(ChangeRefusedError, match="another champion"):
        check_plan(with_champion("v2"), edited, text)


def run_of(folder: Path, pid: int) -> Path:
    content = keep_application(EXAMPLE, folder)
    Instance("gone", "live", {}, str(folder / "artifacts"), "", pid, psutil.Process().create_time(), str(content)).write(folder)
    return folder


def test_a_run_is_asked_by_a_file_and_answers_by_one(tmp_path: Path) -> None:
    desk = ChangeDesk(tmp_path)
    with pytest.raises(ChangeRefusedError, match="takes changes"):
        desk.ask(EXAMPLE, EXAMPLE, "state", lambda: True)
    pause = threading.Event()
    for problem in ("", "a service did not come"):
        with desk.opened():

            def answer(problem: str = problem) -> None:
                while (request := desk.take()) is None:
                    pause.wait(0.01)
                assert request.application == str(EXAMPLE) and request.state == "state"
                desk.answer(request, problem)

            thread = threading.Thread(target=answer)
            thread.start()
            if problem:
                with pytest.raises(ChangeRefusedError, match=problem):
                    desk.ask(EXAMPLE, EXAMPLE, "state", lambda: True)
            else:
                desk.ask(EXAMPLE, EXAMPLE, "state", lambda: True)
            thread.join(patient(10))
            assert not thread.is_alive() and desk.take() is None
    with desk.opened(), pytest.raises(ChangeRefusedError, match="has ended"):
        desk.ask(EXAMPLE, EXAMPLE, "state", lambda: False)
    with desk.opened():
        assert desk.take() is None, "what an ended run was asked is not done by the next one"


def test_the_command_says_what_is_wrong_and_leaves_the_run_alone(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 0)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    more = changed(tmp_path / "more", (LAST, LAST + SECOND_MODEL))
    refused = changed(tmp_path / "refused", ("partitions: 1", "partitions: 4"))
    nonsense = tmp_path / "plan.json"
    nonsense.write_text("{}")
    for words, code, said in (
        ([EXAMPLE, "--run", run], 1, "has ended"),
        ([more, "--run", run], 1, "has ended"),
        ([refused, "--run", run], 1, "partitions"),
        ([more, "--run", run, "--plan", nonsense], 1, "make the plan anew"),
        ([more, "--run", tmp_path / "nothing"], 2, "found none"),
    ):
        result = CliRunner().invoke(app, ["apply", *map(str, words)])
        assert result.exit_code == code and said in result.output.replace("\n", " "), (words, result.output)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert of_run(run).content == of_folder(EXAMPLE).content
