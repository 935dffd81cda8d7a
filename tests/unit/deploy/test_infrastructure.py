"""Which servers are used follows from the environment, wholly or not at all."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.deploy.embedded import folders
from tidemill.deploy.embedded.infrastructure import VARIABLES, Infrastructure, InfrastructureError

ADDRESSES = dict(zip(VARIABLES, ("broker:9092", "http://registry:8081", "redis://cache:6379/0"), strict=True))


def test_given_addresses_are_used(tmp_path: Path) -> None:
    infrastructure = Infrastructure.from_environment(tmp_path, ADDRESSES)
    assert (infrastructure.bootstrap_servers, infrastructure.registry_url, infrastructure.redis_url) == tuple(ADDRESSES.values())
    assert infrastructure.environment == ADDRESSES


def test_no_address_means_embedded(tmp_path: Path) -> None:
    assert Infrastructure.from_environment(tmp_path, {"PATH": "/bin"}).folder == tmp_path
    assert Infrastructure.from_environment(tmp_path, dict.fromkeys(VARIABLES, " ")).folder == tmp_path


@pytest.mark.parametrize("names", [names for count in (1, 2) for names in itertools.combinations(VARIABLES, count)])
def test_some_addresses_are_refused_and_the_missing_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(InfrastructureError) as failure:
        Infrastructure.from_environment(tmp_path, {name: ADDRESSES[name] for name in names})
    not_set = str(failure.value).split("not set: ")[1]
    for name in VARIABLES:
        assert (name in not_set) == (name not in names)


def test_control_before_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="embedded kafka"):
        Infrastructure.embedded(tmp_path).kafka.stop()


def test_old_run_folders_go_and_living_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "project_root", lambda: tmp_path)
    runs = tmp_path / ".tidemill" / "runs"
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout.strip()
    for number in range(6):
        (runs / f"2026010{number}-000000-{ended}-0000" / "kafka").mkdir(parents=True)
    living = runs / f"20250101-000000-{os.getpid()}-0000"
    living.mkdir()
    foreign = runs / "notes"
    foreign.mkdir()
    new = folders.new_run_folder()
    left = {folder.name[:8] for folder in runs.iterdir()}
    assert left == {"20260103", "20260104", "20260105", "20250101", "notes", new.name[:8]}


def test_the_project_is_found_from_below_it(tmp_path: Path) -> None:
    """A package that lies outside a checkout looks for the project around the working directory."""
    package = tmp_path / "site-packages" / "tidemill" / "deploy" / "embedded"
    package.mkdir(parents=True)
    (package / "folders.py").write_text(Path(folders.__file__).read_text())
    project = tmp_path / "project"
    (project / "a" / "b").mkdir(parents=True)
    (project / "app.yaml").touch()
    program = f"import runpy; print(runpy.run_path({str(package / 'folders.py')!r})['project_root']())"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=project / "a" / "b")
    assert answer.stdout.strip() == str(project)
