"""The compose file runs every service there is, the prediction path in one container or in three, and everything in it is watched."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.pipeline import SEPARATE, TOPOLOGY, pipeline_environment, stage_processes, stage_spec
from tidemill.runs.settings import read_settings
from tidemill.services.gateway.settings import DoorSettings
from tidemill.shared.application.model import Application
from tidemill.shared.application.topics import STAGES
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.stage import FUSED, FUSIBLE

ROOT = Path(__file__).resolve().parents[3]
MODULES = {
    "fused": "tidemill.services.fused",
    "ingestion": "tidemill.services.ingestion",
    "features": "tidemill.services.features",
    "scoring": "tidemill.services.scoring",
    "outcomes": "tidemill.services.outcomes",
    "explanations": "tidemill.services.explanations",
    "archive": "tidemill.services.archive",
    "drift": "tidemill.services.drift",
    "control": "tidemill.services.control",
    "retraining": "tidemill.services.retraining",
    "gateway": "tidemill.services.gateway",
    "alerts": "tidemill.services.alerts",
}
SERVERS = {"kafka", "registry", "redis"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
    return content


@pytest.fixture(scope="module")
def services(content: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = content["services"]
    return services


def defaults(model: type[BaseModel], prefix: str = "TIDEMILL_") -> Iterator[tuple[str, object]]:
    """Every setting's variable and default."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from defaults(type(field.default), f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", field.default


def test_debian_s_own_compose_understands_the_file(content: dict[str, Any]) -> None:
    # docker-compose 1.29 refuses a top-level `name`.
    assert {key for key in content if not key.startswith("x-")} == {"services", "volumes"}


def test_every_service_and_server_is_there(services: dict[str, Any]) -> None:
    assert set(services) == set(MODULES) | SERVERS | {"topics"}
    # The command line is no service.
    packages = {folder.name for folder in (ROOT / "services").iterdir() if (folder / "__init__.py").exists()} - {"cli"}
    assert packages == {module.split(".")[2] for module in MODULES.values()}


@pytest.mark.parametrize("topology", [FUSED, SEPARATE])
def test_a_profile_runs_what_the_supervisor_runs_in_that_topology(services: dict[str, Any], topology: str) -> None:
    profile = {name for name in MODULES if services[name].get("profiles", [topology]) == [topology]}
    assert profile == {*stage_processes(topology), "gateway", "alerts"}
    # What an application asks for is asked for in its run, too.
    assert services["explanations"]["profiles"] == ["explanations"]
    assert profile | {"explanations"} == {*stage_processes(topology, STAGES), "gateway", "alerts"}


def test_the_profile_is_the_topology_and_fused_unless_it_is_set(services: dict[str, Any]) -> None:
    default = Application.model_fields["topology"].default
    assert f"COMPOSE_PROFILES=${{{TOPOLOGY}:-{default}}}" in (ROOT / ".env").read_text().splitlines()
    assert services["topics"]["environment"][TOPOLOGY] == f"${{{TOPOLOGY}:-{default}}}", "refused there before anything starts"


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_a_service_runs_its_module_after_the_servers_are_healthy_and_the_topics_made(services: dict[str, Any], name: str, module: str) -> None:
    service = services[name]
    assert service["command"] == ["python", "-m", module]
    assert {other: condition["condition"] for other, condition in service["depends_on"].items()} == {
        "topics": "service_completed_successfully",
        "registry": "service_healthy",
        "redis": "service_healthy",
    }
    for variable in ("TIDEMILL_KAFKA__BOOTSTRAP_SERVERS", "TIDEMILL_REGISTRY__URL", "TIDEMILL_REDIS__URL"):
        assert service["environment"][variable]


def test_the_topics_are_made_once_by_a_container_that_ends(services: dict[str, Any]) -> None:
    # The broker makes none by itself, and ingestion refuses to start without the raw ones.
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    topics = services["topics"]
    assert topics["command"] == ["python", "-m", "tidemill", "topics", "/application"]
    assert topics["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert topics["restart"] == "on-failure"
    assert topics["healthcheck"] == {"disable": True}


@pytest.mark.parametrize("name", [*MODULES, "topics"])
def test_a_container_of_ours_can_write_nowhere_but_to_its_volume(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [volume.rsplit(":", 1)[1] for volume in service["volumes"]] == ["ro", "/data"]


def test_everything_that_is_written_by_default_lies_in_the_volume() -> None:
    written = {variable for variable, default in defaults(ServiceSettings) if ".tidemill" in str(default)}
    assert written
    for variable in {*written, "NUMBA_CACHE_DIR"}:
        assert re.search(rf"\b{variable}=(sqlite:///)?/data/", DOCKERFILE), variable


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"gateway", "alerts"}))
def test_a_stage_has_the_settings_it_has_under_the_supervisor(services: dict[str, Any], name: str) -> None:
    environment = {variable: str(value) for variable, value in services[name]["environment"].items()}
    under_supervisor = pipeline_environment(
        ROOT / "examples" / "flights", Infrastructure.given("kafka", "registry", "redis"), ROOT, "live", read_settings()
    )
    plain = {variable for variable in under_supervisor if not variable.startswith("TIDEMILL_")}
    assert {variable: environment.get(variable) for variable in plain} == {variable: under_supervisor[variable] for variable in plain}
    own = dict(stage_spec(name, under_supervisor).environment)
    cadence = [f"TIDEMILL_RUNNER__{what}_INTERVAL_MS" for what in ("IDLE", "COMMIT")]
    assert {variable: environment.get(variable) for variable in cadence} == {variable: own.get(variable) for variable in cadence}
    options = (json.loads(there.get("TIDEMILL_KAFKA__OPTIONS", "{}")) for there in (environment, own))
    assert next(options) == next(options)
    assert ("cpu_shares" in services[name]) == (name not in (FUSED, *FUSIBLE))


def test_the_gateway_is_probed_at_its_own_door(services: dict[str, Any]) -> None:
    gateway = services["gateway"]
    port = gateway["environment"]["TIDEMILL_GATEWAY__PORT"]
    assert gateway["ports"][0].endswith(f":{port}")
    assert f"127.0.0.1:{port}/live" in gateway["healthcheck"]["test"][-1]


def test_the_gateway_is_reached_from_other_containers_with_a_token_only(services: dict[str, Any]) -> None:
    own = {name.removeprefix("TIDEMILL_GATEWAY__").lower(): value for name, value in services["gateway"]["environment"].items() if "GATEWAY" in name}
    door = DoorSettings.model_validate(own)
    assert not door.on_loopback and door.tokens_file is not None and door.tokens_file.is_relative_to("/data")


def test_the_broker_s_records_lie_in_the_volume(services: dict[str, Any]) -> None:
    kafka = services["kafka"]
    assert kafka["volumes"] == [f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}"]


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_server_has_a_health_check_and_its_image_is_a_variable_with_a_pinned_default(services: dict[str, Any], name: str) -> None:
    assert services[name]["healthcheck"]["test"]
    image = services[name]["image"]
    assert image.startswith(f"${{TIDEMILL_{name.upper()}_IMAGE:-")
    assert ":" in image.split(":-")[1]  # a tag


def test_only_loopback_ports_are_published(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_image_has_a_health_check_and_does_not_run_as_root() -> None:
    instructions = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line[:1].isupper()]
    users = [rest for word, rest in instructions if word == "USER"]
    assert users[-1] == "tidemill"
    assert any(word == "HEALTHCHECK" for word, _ in instructions)
    assert any("--require-hashes" in line for line in DOCKERFILE.splitlines())
