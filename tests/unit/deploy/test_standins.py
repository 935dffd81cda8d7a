"""The stand-in images: named as everything asks for them, of the versions the compose file names, failing with a clear word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.deploy.standins.debian import mirror
from tidemill.deploy.standins.images import FOLDER, RECIPES, StandIns
from tidemill.deploy.standins.tool import StandInError, run

ROOT = Path(__file__).resolve().parents[3]


def test_every_variable_is_one_that_the_compose_file_reads() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    variables = StandIns("mine").variables()
    assert len(variables) == len(RECIPES)
    for variable, image in variables.items():
        assert f"${{{variable}:-" in compose
        assert image.startswith("mine/")


@pytest.mark.parametrize("server", ["kafka", "registry"])
def test_a_stand_in_has_the_version_of_what_it_stands_in_for(server: str) -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    image = re.search(rf"TIDEMILL_{server.upper()}_IMAGE:-[^:}}]+:([^}}]+)}}", compose)
    assert image is not None
    assert StandIns().names()[server].endswith(f":{image.group(1)}")


@pytest.mark.parametrize("recipe", ["kafka", "registry", "redis"])
def test_no_server_runs_as_root(recipe: str) -> None:
    users = [line.split()[1] for line in (FOLDER / recipe / "Dockerfile").read_text().splitlines() if line.startswith("USER ")]
    assert users
    assert users[-1] not in ("root", "0")


@pytest.mark.parametrize(
    "text",
    [
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: stable\n",
        "# a comment\ndeb [signed-by=/k] http://mirror.example/debian stable main\n",
    ],
)
def test_the_package_source_is_the_machine_s_own(tmp_path: Path, text: str) -> None:
    sources = tmp_path / "sources"
    sources.write_text(text)
    assert mirror((tmp_path / "missing", sources)) == "http://mirror.example/debian"


def test_no_package_source_is_an_error_that_says_where_was_looked(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.write_text("# nothing\n")
    with pytest.raises(StandInError, match=f"expected a package source in {sources}"):
        mirror((sources,))


def test_a_tool_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(StandInError, match=r"the image x: .* ended with 3:\nno space left"):
        run([sys.executable, "-c", "print('no space left'); raise SystemExit(3)"], "the image x")


def test_a_tool_that_is_not_there_is_named() -> None:
    with pytest.raises(StandInError, match="expected no-such-tool on the PATH"):
        run(["no-such-tool"], "the image x")


def test_an_unknown_image_is_refused_before_anything_is_built() -> None:
    done = subprocess.run([sys.executable, "-m", "tidemill.deploy.standins", "postgres"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected some of python, kafka, registry, redis, came postgres" in done.stderr
