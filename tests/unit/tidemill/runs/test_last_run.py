"""Every command finds its run in one way: what it is told, else the environment's addresses, else the last run of the application."""

import json
import os
from pathlib import Path

import psutil
import pytest
import typer

from tests.help_examples import commands, examples
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.instance import Instance, InstanceError
from tidemill.runs.last_run import last_run
from tidemill.services.cli.run_option import lake_uri, run_folder

ADDRESSES = dict.fromkeys(VARIABLES, "somewhere")
UP, REPLAY, DEMO = Path(".tidemill/up/shop"), Path(".tidemill/replay/shop-20260102-030405-beef"), Path(".tidemill/demo/cafe")


def make(folder: Path, at: int, runs: bool = False, archived: bool = True) -> None:
    """A run's folder as commands leave it, written at some second; without an instance's file that of the demo."""
    folder.mkdir(parents=True)
    if "demo" not in folder.parts:
        pid, started = (os.getpid(), psutil.Process().create_time()) if runs else (0, 0.0)
        Instance("shop", "live", {}, "artifacts", "", pid, started).write(folder)
        os.utime(folder / "instance.json", (at, at))
    if archived:
        (folder / "lake" / "shop").mkdir(parents=True)
        os.utime(folder / "lake", (at, at))


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_last_run_is_the_one_that_goes_on_else_the_newest() -> None:
    assert last_run("shop") == UP, "where `up` would make one"
    make(UP, 100)
    make(REPLAY, 200, archived=False)
    make(Path(".tidemill/replay/shop-window-20260102-030405-beef"), 900)
    make(Path(".tidemill/up/other"), 900)
    assert last_run("shop") == REPLAY
    assert last_run("shop", archived=True) == UP, "the replay has archived nothing"
    make(DEMO, 300)
    assert last_run("shop") == REPLAY and last_run("shop", archived=True) == DEMO, "of a demo only the archive is left"
    make(Path(".tidemill/replay/shop-20250101-000000-0000"), 50, runs=True)
    assert last_run("shop") == Path(".tidemill/replay/shop-20250101-000000-0000")


def test_a_broken_file_hides_no_other_run() -> None:
    make(UP, 100)
    make(REPLAY, 50)
    (UP / "instance.json").write_text("no JSON")
    assert last_run("shop") == UP and last_run("shop", archived=True) == UP


def test_what_is_said_comes_before_what_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    make(UP, 100)
    assert run_folder("shop", Path("mine"), {}) == Path("mine")
    assert run_folder("shop", None, ADDRESSES) == UP and not capsys.readouterr().err, "the addresses count, not the folder"
    assert run_folder("shop", None, {}) == UP and capsys.readouterr().err == f"run: {UP}\n"
    own = {"TIDEMILL_LAKE__URI": "s3://own"}
    assert lake_uri("shop", "there", None, own) == "there"
    assert lake_uri("shop", None, Path("mine"), own) == "mine/lake"
    assert lake_uri("shop", None, None, own) == "s3://own"
    assert lake_uri("shop", None, None, ADDRESSES) == ".tidemill/lake"
    assert lake_uri("shop", None, None, {}) == str(UP / "lake")
    with pytest.raises(typer.BadParameter, match="one of them"):
        lake_uri("shop", "there", Path("mine"), {})
    with pytest.raises(InstanceError, match=r"--run.*--lake"):
        lake_uri("fresh", None, None, {})


ALL = commands()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_examples_in_its_help_and_each_can_be_read(path: tuple[str, ...]) -> None:
    # In a checkout, beside another one of its main branch (`plan --from`), and behind the example of `init`.
    Path("main").symlink_to(Path(__file__).parents[4])
    Path("examples").symlink_to("main/examples")
    Path("my-app").symlink_to("examples/payments")
    first, *more = examples(ALL[path])
    assert tuple(first[: len(path)]) == path
    for words in (first, *more):
        named = next(other for other in ALL if tuple(words[: len(other)]) == other)
        context = ALL[named].make_context(" ".join(named), words[len(named) :])
        assert not context.args, json.dumps(words)


def test_commands_on_a_run_name_it_in_one_way() -> None:
    without = {" ".join(path) for path, command in ALL.items() if not any("--run" in parameter.opts for parameter in command.params)}
    assert without == {"demo", "init", "up", "schema", "topics", "doctor", "check"}
