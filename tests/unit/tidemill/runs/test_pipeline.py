"""What runs is what the application file says, fused unless it says otherwise; the environment overrides it."""

import shutil
from pathlib import Path

import pytest

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.pipeline import SEPARATE, TOPOLOGY, pipeline_environment, stage_processes
from tidemill.runs.settings import read_settings
from tidemill.shared.application.topics import STAGES
from tidemill.shared.service.stage import FUSED, FUSIBLE

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"
SERVERS = Infrastructure.given("kafka:9092", "http://registry", "redis://redis")


def topology(application: Path, folder: Path) -> str:
    return pipeline_environment(application, SERVERS, folder, "live", read_settings())[TOPOLOGY]


def test_fused_unless_the_application_or_the_environment_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOPOLOGY, raising=False)
    assert topology(FLIGHTS, tmp_path) == FUSED
    explicit = Path(shutil.copytree(FLIGHTS, tmp_path / "flights"))
    (explicit / "app.yaml").write_text((explicit / "app.yaml").read_text() + "topology: separate\n")
    assert topology(explicit, tmp_path) == SEPARATE
    monkeypatch.setenv(TOPOLOGY, FUSED)
    assert topology(explicit, tmp_path) == FUSED


def test_every_stage_has_a_process_or_shares_the_fused_one() -> None:
    assert stage_processes(SEPARATE) == STAGES
    assert stage_processes(FUSED) == (FUSED, *(stage for stage in STAGES if stage not in FUSIBLE))
