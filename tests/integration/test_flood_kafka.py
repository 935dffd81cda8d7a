"""A flood of junk on a real broker, through the real ingestion: worked off without an end of the process, or paused and resumed by one command."""

from pathlib import Path

import pytest

from campaigns.flood import flood
from tidemill.deploy.embedded.infrastructure import Infrastructure

pytestmark = [pytest.mark.timeout(120), pytest.mark.lasts(10)]


def test_a_flood_is_worked_off_and_another_is_paused_until_it_is_resumed(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    result = flood(infrastructure, tmp_path / "run", application_name, 20_000)
    assert result.as_it_must_be, result
    # Measured: 1 s, most of it the publishing; before, no number of restarts ended it.
    assert result.seconds < 30
