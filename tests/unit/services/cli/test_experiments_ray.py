"""Trials on a Ray cluster: the same table as from processes, whatever dies; skipped by name where Ray is not installed, and said so to the user."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.cli.test_experiments import GRID, run, trained, world, written
from tests.unit.services.retraining.test_job import World
from tidemill.experiments.ray_pool import Parcel, RayMissingError, RayPool

__all__ = ["world"]


@pytest.fixture
def ray_cluster() -> Iterator[str]:
    """A cluster of this test's own, with two processors; its address."""
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'tidemill[ray]'")
    cluster: Any = importlib.import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield cluster.address
    cluster.shutdown()


def test_a_user_without_ray_is_told_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / "ray").is_dir()])
    code, said = run(world, "--trials", "2", "--ray", "auto")
    said = re.sub(r"[│\s]+", " ", said)
    assert code == 2 and "expected the package ray, found none" in said and "tidemill[ray]" in said
    with pytest.raises(RayMissingError, match="expected the package ray"):
        RayPool(tmp_path, tmp_path, "auto", None, 1.0)


def test_a_parcel_is_unpacked_once_and_refused_by_other_code(tmp_path: Path) -> None:
    parcel = Parcel("subject", {"rows.arrow": b"rows"}, {"app/app.yaml": "app: a"}, "app")
    place = parcel.unpack(tmp_path / "machine")
    written = (place / "rows.arrow").stat().st_mtime_ns
    assert (place / "application" / "app" / "app.yaml").read_text() == "app: a" and (place / "rows.arrow").read_bytes() == b"rows"
    assert parcel.unpack(tmp_path / "machine") == place and (place / "rows.arrow").stat().st_mtime_ns == written
    with pytest.raises(RuntimeError, match=r"expected Tidemill 0\.0 on every machine"):
        Parcel("subject", {}, {}, "app", code="0.0").unpack(tmp_path / "machine")


@pytest.mark.lasts(60)
def test_the_cluster_makes_the_table_of_the_processes_and_a_dead_worker_costs_its_own_trial(world: World, ray_cluster: str) -> None:
    (world.folder / "grid.yaml").write_text(GRID)
    grid = ("--grid", str(world.folder / "grid.yaml"))
    code, said = run(world, *grid, "--ray", ray_cluster)
    assert code == 0, said
    table = written(world)
    status = {one["family"]: (one["status"], one["reason"]) for one in table["trials"]}
    assert status["logistic_regression"] == ("done", "")
    assert status["trials_own:dies"][0] == "died" and "its worker ended" in status["trials_own:dies"][1], status
    assert status["trials_own:raises"][0] == "failed" and "<b>no</b>" in status["trials_own:raises"][1], status
    # What has ended is kept; what died is tried again, by processes this time.
    code, said = run(world, *grid)
    assert code == 0 and "3 of 4 trials were ended before and are kept" in said
    assert trained(written(world)) == trained(table)
    code, said = run(world, *grid, "--out", str(world.folder / "processes"))
    assert code == 0
    assert json.dumps(trained(written(world, "processes")), sort_keys=True) == json.dumps(trained(table), sort_keys=True)


@pytest.mark.lasts(30)
def test_a_trial_that_takes_too_long_is_ended_on_the_cluster(world: World, ray_cluster: str) -> None:
    (world.folder / "trials_own.py").write_text(
        "import time\nfrom sklearn.linear_model import LogisticRegression\n"
        "class Slow(LogisticRegression):\n    def fit(self, rows, labels, sample_weight=None):\n        time.sleep(600)\n"
        "def dies(): return Slow()\ndef raises(): return Slow()\n"
    )
    (world.folder / "grid.yaml").write_text(GRID)
    code, said = run(world, "--grid", str(world.folder / "grid.yaml"), "--ray", ray_cluster, "--longest", "10s")
    assert code == 0, said
    status = {one["family"]: (one["status"], one["reason"]) for one in written(world)["trials"]}
    assert status["logistic_regression"][0] == "done"
    assert status["trials_own:dies"] == ("died", "took longer than 10 s (--longest)")
