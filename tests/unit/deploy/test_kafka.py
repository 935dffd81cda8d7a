"""One node keeps one copy of everything; three keep three, and know each other."""

from pathlib import Path

import pytest

from tidemill.deploy.embedded.kafka import kafka_component, kafka_program
from tidemill.deploy.embedded.registry import registry_component, registry_program


def written(folder: Path) -> dict[str, str]:
    lines = (folder / "server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(("nodes", "copies", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_nodes_of_a_cluster(tmp_path: Path, nodes: int, copies: str, in_sync: str) -> None:
    controllers = [20_001, 20_002, 20_003][:nodes]
    made = []
    for node in range(1, nodes + 1):
        folder = tmp_path / str(node)
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "meta.properties").touch()  # Formatted.
        made.append(kafka_component(folder, kafka_program([]), [], 30_000 + node, controllers, tmp_path / "template", node))
    assert [one.name for one in made] == (["kafka"] if nodes == 1 else ["kafka-1", "kafka-2", "kafka-3"])
    assert len({one.address for one in made}) == nodes
    settings = [written(tmp_path / str(node)) for node in range(1, nodes + 1)]
    assert [one["node.id"] for one in settings] == [str(node) for node in range(1, nodes + 1)]
    assert {one["controller.quorum.voters"] for one in settings} == {",".join(f"{i}@127.0.0.1:{port}" for i, port in enumerate(controllers, 1))}
    assert {one["broker.session.timeout.ms"] for one in settings} == {"3000"}
    for one, port in zip(settings, controllers, strict=True):
        assert f"CONTROLLER://127.0.0.1:{port}" in one["listeners"]
        assert (
            one["offsets.topic.replication.factor"] == one["transaction.state.log.replication.factor"] == one["default.replication.factor"] == copies
        )
        assert one["transaction.state.log.min.isr"] == in_sync


def test_a_broker_that_nobody_kills_may_be_silent_for_longer(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "meta.properties").touch()
    kafka_component(tmp_path, kafka_program([]), [], 30_001, [20_001], tmp_path / "template", session_s=60)
    assert written(tmp_path)["broker.session.timeout.ms"] == "60000"


def test_what_a_killed_server_has_unpacked_is_in_its_folder_and_goes_at_the_next_start(tmp_path: Path) -> None:
    """Kafka's native library of LZ4 and those of the registry stayed in the machine's folder of temporary files, one for each kill."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "meta.properties").touch()
    left = tmp_path / "tmp" / "liblz4-java-1.so"
    for _ in range(2):
        broker = kafka_component(tmp_path, kafka_program([]), [], 30_001, [20_001], tmp_path / "template")
        assert f"-Djava.io.tmpdir={left.parent}" in broker.command
        assert left.parent.is_dir() and not left.exists()
        left.touch()
    registry = registry_component(tmp_path / "registry", registry_program(tmp_path / "distribution"), [], 30_002, 30_003)
    assert f"-Djava.io.tmpdir={tmp_path / 'registry' / 'tmp'}" in registry.command
