"""The short form of ``make hostile``: an attack on the whole running system, Kafka, registry, Redis and gateway included."""

from pathlib import Path

import pytest

from campaigns.hostile.run import Attack, attack
from tidemill.deploy.embedded.infrastructure import Infrastructure

pytestmark = [pytest.mark.timeout(180), pytest.mark.lasts(35), pytest.mark.usefixtures("forked_interpreters")]


def test_a_live_attack_is_accounted_for_ends_no_process_and_touches_nobody_else(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    plan = Attack(seed=3, hostile=900, good_per_s=60, quiet_s=2, attack_s=6, memory=False)
    result = attack(infrastructure, tmp_path / "run", application_name, plan)
    assert not result.problems, result
    verdict = result.verdict
    assert verdict["raw"] == verdict["accepted"] + verdict["rejected"] + verdict["duplicates"] > 1_500
    assert verdict["rejected"] > 400 and verdict["vectors_compared"] > 500 and len(result.hostile_by_kind) >= 19
    assert result.p99_attack_ms > 0 and result.http_answers[202] > 40
