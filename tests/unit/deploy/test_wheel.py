"""The wheel has one import name and everything that the commands need, outside of the repository."""

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.patience import patient
from tidemill.deploy.wheel import build, constraints

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build(folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_one_import_name(unpacked: Path) -> None:
    names = {path.name for path in unpacked.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"tidemill"}
    assert (unpacked / "tidemill" / "py.typed").exists()


def test_schemas_examples_and_locks_are_in_it(unpacked: Path) -> None:
    for kind in ("schemas/*.avsc", "schemas/topics.yaml", "examples/*/app.yaml", "examples/*/schemas/*.avsc", "deploy/embedded/*.lock"):
        expected = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(kind)}
        assert expected
        assert {path for path in expected if not (unpacked / "tidemill" / path).exists()} == set(), kind


def test_its_command_checks_its_example(unpacked: Path, tmp_path: Path) -> None:
    """Nothing of the repository is on the path; the packages that the lock installs are lent."""
    path = [str(unpacked), sysconfig.get_paths()["purelib"]]
    program = f"import sys; sys.path[:0] = {path!r}; sys.argv[0] = 'tidemill'; from tidemill.__main__ import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"NUMBA_CACHE_DIR": str(tmp_path)}
    application = unpacked / "tidemill" / "examples" / "payments"
    command = [sys.executable, "-S", "-c", program, "check", str(application)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=patient(120))
    assert done.returncode == 0, done.stdout + done.stderr
    where = subprocess.run(
        [*command[:3], program.replace("from tidemill.__main__ import main; main()", "import tidemill.shared; print(tidemill.shared.__path__[0])")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.strip().startswith(str(unpacked))


def test_the_constraints_are_the_versions_of_the_lock() -> None:
    lines = constraints().splitlines()
    assert "numpy==" in "\n".join(lines) and len(lines) > 100
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^\s;]+", line) for line in lines), lines[:3]
