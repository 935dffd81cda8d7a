import re

import pytest

from benchmarks.environments import JAVA_LOCK, PEERS
from tidemill.deploy.embedded.artifacts import read_lock


def test_every_jar_is_pinned_by_version_and_hash_once_for_each_use() -> None:
    artifacts = read_lock(JAVA_LOCK)
    assert {artifact.use for artifact in artifacts} == {"avro", "compiler", "kafka-streams", "flink"}
    assert len({(artifact.use, artifact.name) for artifact in artifacts}) == len(artifacts)


@pytest.mark.parametrize("name", ["quix", "faust"])
def test_every_package_is_pinned_with_hashes_and_no_address(name: str) -> None:
    lines = [line for line in (PEERS / f"{name}.lock").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    packages = [line for line in lines if not line.startswith(" ")]
    assert len(packages) > 20
    assert all(re.match(r"^[A-Za-z0-9._\[\],-]+==[^ ]+( ; .*)? \\$", line) for line in packages)
    assert all(line.strip().startswith("--hash=sha256:") for line in lines if line.startswith(" "))
    assert not any("://" in line for line in lines)
