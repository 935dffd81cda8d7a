"""What a training's bytes depend on beside its data: code, packages, Python, architecture."""

import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

import numpy as np

import tidemill
from tidemill.shared.version import CODE_VERSION

_PACKAGE = Path(tidemill.__file__).parent
_CODE = ("shared", "services/retraining")
_TOLD = ("numpy", "scipy", "numba", "polars", "optuna", "lightgbm", "scikit-learn", "onnx", "onnxmltools", "onnxruntime")


@cache
def training_environment() -> dict[str, str]:
    """Return what a record says of the process that trains.

    The lock is the file that the packages were installed from, empty where there is none (a wheel elsewhere). CPU features are those that NumPy may
    use: `NPY_DISABLE_CPU_FEATURES` takes some away.
    """
    lock = _PACKAGE.parent / "requirements.lock"
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return {
        "code": CODE_VERSION,
        "code_sha256": code_digest(),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_features": " ".join([*simd.get("baseline", ()), *simd.get("found", ())]),
        **{name: importlib.metadata.version(name) for name in _TOLD},
    }


@cache
def code_digest() -> str:
    """Return the digest of the code that trains: the names and bytes of its files."""
    digest = hashlib.sha256()
    for part in _CODE:
        root = _PACKAGE / part
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{part}/{file.relative_to(root).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def differences(recorded: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return what is not as it was recorded: then and now, by name. Bytes are promised where there is nothing."""
    now = training_environment()
    return {name: (recorded.get(name, ""), now.get(name, "")) for name in sorted({*recorded, *now}) if recorded.get(name, "") != now.get(name, "")}
