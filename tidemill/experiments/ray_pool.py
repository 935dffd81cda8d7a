"""Trials on a Ray cluster; Ray is an optional extra (``pip install 'tidemill[ray]'``)."""

import hashlib
import importlib
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidemill.experiments.configuration import Configuration
from tidemill.experiments.pool import ENVIRONMENT, result_path
from tidemill.experiments.subject import ROWS, SUBJECT, write_whole
from tidemill.shared.application.application_files import application_texts, write_application
from tidemill.shared.version import CODE_VERSION

_LOOK_S = 0.5
_ROOT = "application-root"


class RayMissingError(Exception):
    """Ray is not installed, or no cluster answers; says what to do."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a machine of the cluster needs for the trials of an experiment, beside the packages.

    Attributes
    ----------
    subject
        Identity of the subject: rows, cuts and rules.
    files
        Of the subject, by name.
    application, root
        Texts by path, and the application's folder among those paths (`application_texts`).
    code
        Version that the machines must have.
    """

    subject: str
    files: Mapping[str, bytes]
    application: Mapping[str, str]
    root: str
    code: str = CODE_VERSION

    @property
    def name(self) -> str:
        """By what is in it, so that machines that have it from an earlier run do not fetch it again."""
        said = json.dumps([self.subject, dict(self.application), self.root, self.code], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def unpack(self, folder: Path) -> Path:
        """Write it below a folder, whole or not at all, where it is not there yet; several workers of a machine may do so at once.

        Raises
        ------
        RuntimeError
            The machine has another version of the code.
        """
        if self.code != CODE_VERSION:
            raise RuntimeError(f"expected Tidemill {self.code} on every machine of the cluster, found {CODE_VERSION}: install the same version")
        place = folder / self.name
        if not place.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=folder, prefix=f"{self.name}-"))
            write_application(self.application, self.root, part / "application")
            (part / _ROOT).write_text(self.root, encoding="utf-8")
            for name, content in self.files.items():
                (part / name).write_bytes(content)
            try:
                part.rename(place)
            except OSError:  # Another worker was faster.
                shutil.rmtree(part)
                if not place.exists():
                    raise
        return place


def trial_on_cluster(held: Sequence[Any], name: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Run one trial in a worker of the cluster.

    Parameters
    ----------
    held
        The reference of the parcel: fetched only where the machine does not have it yet.
    name
        Of the parcel.
    """
    from tidemill.experiments.worker import answer

    folder = Path(tempfile.gettempdir()) / f"tidemill-experiments-{os.getuid()}"
    place = folder / name
    if not place.exists():
        parcel: Parcel = _ray().get(held[0])
        place = parcel.unpack(folder)
    application = place / "application" / (place / _ROOT).read_text(encoding="utf-8")
    return {**answer({"folder": str(place), "application": str(application), "configuration": dict(configuration)}), "configuration": configuration}


class RayPool:
    """Trials as tasks of a Ray cluster, one processor each; the same results in the same files as those of `ProcessPool`.

    Rows and application are sent once to each machine, which needs the same version of the packages. A worker that ends, or takes too long, fails its
    own trial. Results are written as they come, by this process, so what is finished stays when it is killed; the cluster ends the tasks of a driver
    that has gone.

    Parameters
    ----------
    folder
        Of the experiment: rows and subject. Results lie in ``results``, by configuration.
    address
        Of the cluster, such as ``127.0.0.1:6379``; ``auto`` for the one of this machine.
    jobs
        Most trials at once; None: one for each processor of the cluster.
    longest_s
        A trial that takes longer is ended and has failed.

    Raises
    ------
    RayMissingError
        Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, folder: Path, application: Path, address: str, jobs: int | None, longest_s: float) -> None:
        self._folder, self._application, self._jobs, self._longest_s = folder, application, jobs, longest_s
        self._ray = _ray()
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="error", runtime_env={"env_vars": dict(ENVIRONMENT)})
        except (ConnectionError, ValueError, RuntimeError) as problem:
            said = " ".join(str(problem).split())[:300]
            raise RayMissingError(f"expected a Ray cluster at {address}, found none ({said}): start one with `ray start --head`") from problem

    def run(self, configurations: Sequence[Configuration], done: Callable[[Configuration, dict[str, Any]], None]) -> None:
        """Run trials; `done` is told of each as it ends."""
        ray, waiting = self._ray, deque(configurations)
        (self._folder / "results").mkdir(parents=True, exist_ok=True)
        running: dict[Any, tuple[Configuration, float]] = {}
        try:
            parcel = self._parcel()
            held = [ray.put(parcel)]
            task = ray.remote(num_cpus=1, max_retries=0)(trial_on_cluster)
            while waiting or running:
                places = self._jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
                while waiting and len(running) < places:
                    one = waiting.popleft()
                    result_path(self._folder, one).unlink(missing_ok=True)
                    running[task.remote(held, parcel.name, asdict(one))] = one, time.monotonic() + self._longest_s
                ended, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_S)
                for reference in ended:
                    one, _ = running.pop(reference)
                    done(one, self._result(reference, one))
                for reference in [each for each, (_, ends_at) in running.items() if time.monotonic() >= ends_at]:
                    one, _ = running.pop(reference)
                    ray.cancel(reference, force=True)
                    done(one, _died(f"took longer than {self._longest_s:g} s (--longest)", one))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            ray.shutdown()

    def _parcel(self) -> Parcel:
        texts, root = application_texts(self._application)
        # A grid may name estimators that the application itself does not.
        own = [file.relative_to(self._application) for file in self._application.rglob("*.py")]
        modules = [name for name in own if not any(part.startswith((".", "__pycache__")) for part in name.parts)]
        texts |= {(Path(root) / name).as_posix(): (self._application / name).read_text(encoding="utf-8") for name in modules}
        files = {name: (self._folder / name).read_bytes() for name in (ROWS, SUBJECT)}
        return Parcel(self._folder.name, files, texts, root)

    def _result(self, reference: object, configuration: Configuration) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._ray.get(reference)
        except self._ray.exceptions.RayError as problem:
            return _died(f"its worker ended: {' '.join(str(problem).split())[:400]}", configuration)
        write_whole(result_path(self._folder, configuration), json.dumps(result))
        return result


def _died(reason: str, configuration: Configuration) -> dict[str, Any]:
    return {"status": "died", "reason": reason, "configuration": asdict(configuration)}


def _ray() -> Any:  # an optional package, without types where it is not installed
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as problem:
        raise RayMissingError("expected the package ray for --ray, found none: install it with `pip install 'tidemill[ray]'`") from problem
