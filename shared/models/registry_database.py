"""A registry's database in SQLite: a copy of one with MLflow's tables and nothing in them."""

import contextlib
import fcntl
import shutil
import sqlite3
import tempfile
from pathlib import Path

from tidemill.deploy.embedded.folders import cache_folder


def make_database(path: Path) -> None:
    """Make a registry's database, unless the file exists: a copy of the one that the project's cache keeps.

    MLflow makes its tables as they once were and brings them up to date in fifty steps, which takes a second and a half of processor time for each
    database. The result is the same each time, so it is made once for a version of MLflow. MLflow compares the schema of what it opens with its own.
    Where the cache cannot be written, no file is made: MLflow makes the tables when it opens the database.

    Parameters
    ----------
    path
        The file; its folder exists. Of several processes that make it at once one does.
    """
    with contextlib.ExitStack() as held:
        try:
            folder = cache_folder() / "mlflow"
            folder.mkdir(exist_ok=True)
            lock = held.enter_context((folder / ".lock").open("w"))
        except OSError:
            return
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            copy = path.with_name(f".{path.name}.new")
            shutil.copyfile(_empty(folder), copy)
            copy.replace(path)


def _empty(folder: Path) -> Path:
    """Return the cache's file; where it is missing, make it and remove those of other versions."""
    import mlflow

    kept = folder / f"mlflow-{mlflow.__version__}.db"
    if not kept.exists():
        for other in folder.glob("*.db"):
            other.unlink()
        with tempfile.TemporaryDirectory(dir=folder) as name:
            full, empty = Path(name) / "full.db", Path(name) / "empty.db"
            mlflow.MlflowClient(tracking_uri=f"sqlite:///{full}", registry_uri=f"sqlite:///{full}")
            with contextlib.closing(sqlite3.connect(full)) as database:
                # The experiment that each store begins with says where the store keeps its files: the store that opens the copy writes its own.
                database.execute("DELETE FROM experiments")
                database.commit()
                database.execute("VACUUM INTO ?", [str(empty)])
            empty.replace(kept)
    return kept
