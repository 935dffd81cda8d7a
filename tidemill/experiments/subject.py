"""What an experiment is about: the rows, the cuts and the rules that all of its trials share, as files that workers read."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.experiments.trial import FoldedRows, Rules
from tidemill.services.retraining.domain.folds import Folds
from tidemill.services.retraining.labelled_rows import examples_of
from tidemill.services.retraining.own_families import find_own_modules
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.training_set import TrainingSet
from tidemill.shared.version import CODE_VERSION

_FORMAT = 2
"""Of results: raised when figures of earlier ones mean something else. 2: rows count by their weights."""
ROWS, SUBJECT = "rows.arrow", "subject.json"


@dataclass(frozen=True, slots=True)
class Subject:
    """What results depend on, beside their own configuration.

    Attributes
    ----------
    dataset
        Version of the training set: table versions, cut-off, rows, content hash.
    """

    app: str
    model: str
    kind: str
    classes: tuple[str, ...]
    dataset: dict[str, str]
    folds: Folds
    rules: Rules
    code: str = CODE_VERSION

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits: of the rows' content and of what is done with them. Where the rows came from is none of it."""
        said = {**self.said, "dataset": self.dataset["sha256"], "format": _FORMAT}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def said(self) -> dict[str, Any]:
        """As plain data."""
        folds = {"horizon_ms": self.folds.horizon_ms, "known_ms": self.folds.known_ms, "spans": [list(span) for span in self.folds.spans]}
        rules = {"rows": self.rules.rows, "min_each": self.rules.min_each, "class_weight": self.rules.class_weight, "seed": self.rules.seed}
        about = {"app": self.app, "model": self.model, "kind": self.kind, "classes": list(self.classes), "code": self.code}
        return {**about, "dataset": dict(self.dataset), "folds": folds, "rules": rules}

    def write(self, folder: Path, rows: pa.Table) -> None:
        """Write what workers read; each file is there whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{ROWS}.part"
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        os.replace(part, folder / ROWS)
        write_whole(folder / SUBJECT, json.dumps(self.said, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def bench_of(folder: Path, application: Path) -> FoldedRows:
    """Read what `Subject.write` wrote; the rows stay in the file, which all workers of a machine share in memory."""
    said = json.loads((folder / SUBJECT).read_text(encoding="utf-8"))
    plan = load_plan(application)
    find_own_modules(application)
    model = plan.models[said["model"]].with_classes(said["classes"])
    with pa.memory_map(str(folder / ROWS)) as source:
        rows = pa.ipc.open_file(source).read_all()
    folds = Folds(said["folds"]["horizon_ms"], said["folds"]["known_ms"], tuple((begin, end) for begin, end in said["folds"]["spans"]))
    return FoldedRows(examples_of(TrainingSet(rows, said["dataset"]), model), folds, model.kind, Rules(**said["rules"]))
