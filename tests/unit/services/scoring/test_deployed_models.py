"""What serves and what is tried, by the log alone: a trial that outlives a refit, models beside each other, what is tried again and when."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models import artifact
from tests.unit.services.scoring.test_task import COLUMNS, ROOT
from tidemill.services.scoring.deployed_models import DeployedModels
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import GOES_ON, TRIAL

MODEL = "late_arrival"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(ROOT / "examples" / "flights")


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    return [artifact("logistic_regression", COLUMNS, version)[0].to_bytes() for version in ("v1", "v2", "v3")]


def event(sequence: int, name: str, version: str, address: str, model: str = MODEL, **details: str) -> dict[str, Any]:
    return {
        "sequence": sequence, "parent": sequence - 1, "decision_id": "d", "model": model, "event": name, "version": version, "journal_time": 0,
        "artifact_sha256": address, "share": 0.4, "threshold": 0.4, "details": details, "reason": "",
    }  # fmt: skip


def test_a_trial_goes_on_beside_a_refit_that_takes_the_champions_place(plan: Plan, contents: list[bytes], tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    first, tried, refit = map(store.put, contents)
    models = DeployedModels(plan, store)
    models.follow([event(0, "promoted", "v1", first), event(1, "canary", "v2", tried)])
    begun = models.serving[MODEL].challenge
    models.follow([event(2, "promoted", "v3", refit, **{TRIAL: GOES_ON})])
    serving = models.serving[MODEL]
    assert serving.version == "v3" and begun is not None and serving.challenge == begun, "the same share of the same trial"
    models.follow([event(3, "promoted", "v1", first)])
    assert models.serving[MODEL].version == "v1" and models.serving[MODEL].challenge is None


def test_in_shadow_no_share_counts_and_what_was_decided_on_another_head_changes_nothing(plan: Plan, contents: list[bytes], tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    first, tried, _ = map(store.put, contents)
    models = DeployedModels(plan, store)
    models.follow([event(0, "promoted", "v1", first), event(1, "shadow", "v2", tried)])
    challenge = models.serving[MODEL].challenge
    assert challenge is not None and (challenge.stage, challenge.share) == ("shadow", 0.0)
    canary = event(2, "canary", "v2", tried)
    models.follow([{**canary, "parent": 0}, {**canary, "sequence": 3}, event(3, "canary", "v2", tried)])
    assert models.serving[MODEL].challenge == challenge and models.head == 1
    models.follow([canary])
    challenge = models.serving[MODEL].challenge
    assert challenge is not None and (challenge.stage, challenge.share) == ("canary", 0.4)


def test_the_head_is_that_of_the_model_whose_log_is_longest(plan: Plan, contents: list[bytes], tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    address = store.put(contents[0])
    models = DeployedModels(plan, store)
    models.follow([event(0, "registered", "v1", address), event(1, "promoted", "v1", address)])
    models.follow([event(0, "promoted", "v1", address, model="another")])
    assert models.head == 1


@pytest.mark.parametrize("role", ["champion", "challenger"])
def test_another_version_is_tried_again_from_its_own_begin_on(plan: Plan, contents: list[bytes], tmp_path: Path, role: str) -> None:
    store = ArtifactStore(str(tmp_path))
    first, _, late = map(store.put, contents)
    file = tmp_path / late[:2] / late
    content = file.read_bytes()
    file.unlink()
    models, name = DeployedModels(plan, store), "promoted" if role == "champion" else "canary"
    models.follow([event(0, "promoted", "v1", first), event(1, name, "v2", "00" * 32)])

    def loaded() -> bool:
        serving = models.serving[MODEL]
        return (serving if role == "champion" else _challenger(models)).scorer is not None

    tries: list[int] = []
    get: Callable[[str], bytes] = store.get
    now = 0

    def counted(address: str) -> bytes:
        tries.append(now)
        return get(address)

    store.get = counted  # type: ignore[method-assign]  # counts its calls
    for now in range(0, 200_000, 500):
        models.try_again(now)
    assert not loaded() and tries == [1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 123_000, 183_000], "twice as long each time, a minute at most"
    models.follow([event(2, name, "v3", late)])
    models.try_again(200_000)
    file.write_bytes(content)
    models.try_again(200_999)
    assert not loaded()
    models.try_again(201_000)
    assert loaded()


def test_a_champion_that_is_loaded_at_last_has_its_newest_revision_and_its_challenger(plan: Plan, contents: list[bytes], tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    late, tried, _ = map(store.put, contents)
    file = tmp_path / late[:2] / late
    content = file.read_bytes()
    file.unlink()
    models = DeployedModels(plan, store)
    models.follow([event(0, "promoted", "v1", late), event(1, "canary", "v2", tried)])
    models.revise([{"model": MODEL, "model_version": "v1", "sequence": 3, "lower_offset": -1.0, "upper_offset": 1.0}])
    begun = models.serving[MODEL]
    assert begun.scorer is None and begun.revision == -1
    file.write_bytes(content)
    for now in (0, 1_000):
        models.try_again(now)
    serving = models.serving[MODEL]
    assert serving.scorer is not None and (serving.revision, serving.interval) == (3, (-1.0, 1.0)) and serving.challenge == begun.challenge


def _challenger(models: DeployedModels) -> Any:
    challenge = models.serving[MODEL].challenge
    assert challenge is not None
    return challenge.serving
