"""Processes of stages leave out pandas, and the BLAS that Numba looks for; who asks for them has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import patient

ROOT = Path(__file__).parents[3]
# Both run code of the application's own, which may hand Arrow what pandas made.
OWN_CODE = {"cli", "retraining"}
ENTRIES = sorted({*(ROOT / "services").glob("*/__main__.py"), ROOT / "shared" / "runner" / "rehearsal_child.py"})
SCRIPT = """
import sys
import tidemill.shared.without_pandas
import tidemill.services.archive.service, tidemill.services.fused.service
import numpy as np, pyarrow as pa
from tidemill.shared.lake.tables import Lake
lake = Lake(sys.argv[1], "app")
lake.append("t", pa.table({"n": [1, 2], "_t": pa.array([0, 1]).cast(pa.timestamp("ms"))}), "topic:0", np.arange(2))
read = lake.read("t", ["n"], 10**9, "_t")
assert sorted(read.column("n").to_pylist()) == [1, 2] and pa.array([1.5, float("nan")], from_pandas=True).null_count == 1
print("pandas" in sys.modules)
from tidemill.shared.log.partitioning import partitions_of
from tidemill.shared.without_blas import leave_out_blas
leave_out_blas()
partitions_of([b"key"], 2)
print("scipy.linalg" in sys.modules)
import scipy.linalg
print(scipy.linalg.norm([3.0, 4.0]))
print(read.to_pandas()["n"].sum(), "pandas" in sys.modules)
"""


def test_a_stage_works_without_pandas_and_blas_and_both_can_still_be_asked_for(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=patient(100), check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["False", "False", "5.0", "3 True"]), done.stderr


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.parent.name not in OWN_CODE], ids=lambda entry: entry.parent.name)
def test_the_entry_of_a_process_leaves_it_out_before_anything_else(entry: Path) -> None:
    own = [line for line in entry.read_text(encoding="utf-8").splitlines() if line.startswith(("import tidemill", "from tidemill"))]
    assert own[0].startswith("import tidemill.shared.without_pandas")
