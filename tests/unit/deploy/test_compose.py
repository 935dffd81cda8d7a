"""The compose file runs every service there is, and everything in it is watched."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[3]
MODULES = {
    "ingestion": "services.ingestion",
    "features": "services.features",
    "scoring": "services.scoring",
    "outcomes": "services.outcomes",
    "archive": "services.archive",
    "drift": "services.drift",
    "control": "services.control",
    "retraining": "services.retraining",
    "gateway": "services.gateway",
}
SERVERS = {"kafka", "registry", "redis"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
    services: dict[str, Any] = content["services"]
    return services


def test_every_service_and_server_is_there(services: dict[str, Any]) -> None:
    assert set(services) == set(MODULES) | SERVERS
    packages = {folder.name for folder in (ROOT / "services").iterdir() if (folder / "__init__.py").exists()} - {"cli"}
    assert packages == {module.split(".")[1] for module in MODULES.values()}


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_a_service_runs_its_module_after_the_servers_are_healthy(services: dict[str, Any], name: str, module: str) -> None:
    service = services[name]
    assert service["command"] == ["python", "-m", module]
    assert {server: condition["condition"] for server, condition in service["depends_on"].items()} == dict.fromkeys(SERVERS, "service_healthy")
    for variable in ("TIDEMILL_KAFKA__BOOTSTRAP_SERVERS", "TIDEMILL_REGISTRY__URL", "TIDEMILL_REDIS__URL"):
        assert service["environment"][variable]


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
    instructions = [line.split(maxsplit=1) for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1].isupper()]
    users = [rest for word, rest in instructions if word == "USER"]
    assert users[-1] == "tidemill"
    assert any(word == "HEALTHCHECK" for word, _ in instructions)
    assert any("--require-hashes" in line for line in (ROOT / "Dockerfile").read_text().splitlines())
