"""Answers of a search's fits as files, so that a training which is begun again makes none of them twice."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tidemill.services.retraining.domain.families.family import Scores


class KeptFiles:
    """Answers by their identity (`Kept`).

    A file is written whole or not at all. One that another version of code, packages, Python or processor wrote has another name and is not read; one
    that cannot be read is made anew.

    Parameters
    ----------
    folder
        Of one training; made with the first file.
    environment
        What the answers depend on beside their identity (`training_environment`).
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._prefix = hashlib.sha256(repr(sorted(environment.items())).encode()).hexdigest()

    def __call__(self, identity: Callable[[], str], make: Callable[[], Scores]) -> Scores:
        """Return answers that were kept, or make and keep them."""
        name = hashlib.sha256(f"{self._prefix}{identity()}".encode()).hexdigest()
        path = self._folder / f"{name}.npy"
        if path.exists():
            try:
                return np.asarray(np.load(path, allow_pickle=False))
            except (ValueError, EOFError):
                path.unlink()
        answers = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, answers, allow_pickle=False)
        part.rename(path)
        return answers
