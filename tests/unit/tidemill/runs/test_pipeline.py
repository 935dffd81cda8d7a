"""What runs is what the application file says, fused unless it says otherwise; the environment overrides it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.pipeline import SEPARATE, TOPOLOGY, pipeline_environment, stage_processes, start_missing
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.shared.application.planning import load_application, load_plan
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
    assert stage_processes(SEPARATE, STAGES) == STAGES
    assert stage_processes(FUSED, STAGES) == (FUSED, *(stage for stage in STAGES if stage not in FUSIBLE))


def test_explanations_run_where_a_model_asks_for_them(tmp_path: Path) -> None:
    plain = load_application(FLIGHTS)
    assert set(STAGES) - set(plain.stages) == {"explanations"}
    asking = Path(shutil.copytree(FLIGHTS, tmp_path / "flights"))
    text = (asking / "app.yaml").read_text()
    (asking / "app.yaml").write_text(text.replace("    kind: binary\n", "    kind: binary\n    explain: {top: 3}\n", 1))
    assert load_application(asking).stages == STAGES
    # Nothing that others compute follows from it: no state is made again for it.
    assert load_plan(asking).application_hash == load_plan(FLIGHTS).application_hash


def test_a_stage_that_a_changed_application_asks_for_is_started(tmp_path: Path) -> None:
    started: list[ServiceSpec] = []

    class Listing(Supervisor):
        def start(self, specs: Sequence[ServiceSpec]) -> None:
            started.extend(specs)

        def pids(self) -> dict[str, int]:
            return {stage: 1 for stage in stage_processes(FUSED)}

    asking = Path(shutil.copytree(FLIGHTS, tmp_path / "flights"))
    text = (asking / "app.yaml").read_text()
    environment = pipeline_environment(FLIGHTS, SERVERS, tmp_path, "live", read_settings())
    start_missing(Listing(tmp_path, environment), FLIGHTS)
    assert not started
    (asking / "app.yaml").write_text(text.replace("    kind: binary\n", "    kind: binary\n    explain: {top: 3}\n", 1))
    start_missing(Listing(tmp_path, environment), asking)
    assert [(spec.name, spec.environment["TIDEMILL_APPLICATION"], spec.vital) for spec in started] == [("explanations", str(asking), False)]
