import tomllib
from pathlib import Path

from tidemill.shared.version import CODE_VERSION


def test_the_code_and_the_package_have_one_version() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == CODE_VERSION
