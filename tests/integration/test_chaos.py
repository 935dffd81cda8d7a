"""A short form of the campaign of real faults: three (the long form: eight) on the servers that all tests share, and everything is as it must be."""

from pathlib import Path

import pytest

from campaigns.chaos.chunk import ChunkPlan, run_chunk
from campaigns.chaos.kinds.catalogue import KINDS
from tests.long_forms import shortened
from tidemill.deploy.embedded.infrastructure import Infrastructure

# Of each sort some, none that takes ten seconds and more.
SHORT = {
    "SIGKILL", "SIGTERM", "SIGSTOP", "SIGKILL behind", "SIGKILL in recovery", "SIGKILL at produce", "SIGKILL at offsets", "SIGKILL at commit",
    "SIGKILL at a Redis call", "SIGKILL in restore", "instance removed", "clock set", "Redis flushed",
}  # fmt: skip


@pytest.mark.lasts(90)
@pytest.mark.parametrize("faults", shortened([3, 8], 1))
@pytest.mark.timeout(480)
def test_faults_lose_double_and_change_nothing(infrastructure: Infrastructure, application_name: str, tmp_path: Path, faults: int) -> None:
    kinds = [kind for kind in KINDS if kind.name in SHORT]
    assert len(kinds) == len(SHORT)
    said: list[str] = []
    plan = ChunkPlan(seed=1, faults=faults, every=faults, mixed=False)
    result = run_chunk(infrastructure, tmp_path / "run", application_name, plan, kinds, said.append)
    assert not result.problems and not result.interventions, (result.problems, said)
    assert len(result.faults) == faults and all(fault["recovered_s"] is not None for fault in result.faults)
    [checkpoint] = result.checkpoints
    assert checkpoint["raw"] == checkpoint["accepted"] + checkpoint["rejected"] + checkpoint["duplicates"]
    assert checkpoint["audited"] == checkpoint["predictions"] >= checkpoint["good"] > 1_000
