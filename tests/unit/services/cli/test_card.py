"""`tidemill card` on a real archive: what it says is what the archive holds, and nothing of it is markup."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tests.unit.services.retraining.test_job import MODEL, World
from tidemill.services.cli.__main__ import app
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.lake.history import HISTORY, history_row
from tidemill.shared.lake.names import DECISIONS, DEPLOYMENTS, INCIDENTS, PREDICTIONS, TRIALS
from tidemill.shared.models.registry import ModelRegistry

HOSTILE = "<script>alert('&')</script>"


class Answered(World):
    """A world in which one version answers from its training on."""

    version = ""

    def _outcome(self, i: int, score: float | None) -> dict[str, Any]:
        return {**super()._outcome(i, score), "model_version": self.version or "default"}

    def predictions(self, first: int, scores: NDArray[np.float64]) -> None:
        names = dict.fromkeys(arrow_schema(message_schema("prediction")).names)
        rows = [
            {
                **names, "request_id": f"r{i}", "model": MODEL, "journal_partition": 0, "journal_offset": i, "journal_time": int(self.times[i]),
                "event_time": int(self.times[i]), "score": float(scores[i]), "predicted": 0, "model_version": self.version,
                "deployment_sequence": 0, "variant": "champion", "reason": "",
            }
            for i in range(first, self._archived)
        ]  # fmt: skip
        self.lake.append(PREDICTIONS, pa.Table.from_pylist(rows, schema=arrow_schema(message_schema("prediction"))), "p:0", list(range(len(rows))))

    def version_log(self) -> None:
        """What the archive keeps of the version's way into service, and of an incident since."""
        begin, day = int(self.times[0]), 86_400_000
        events = [("registered", 29), ("shadow", 30), ("canary", 32), ("promoted", 40)]
        kept: dict[str, list[dict[str, Any]]] = {
            DEPLOYMENTS: [
                {
                    "sequence": i, "parent": i - 1, "decision_id": f"d{i}", "model": MODEL, "event": event, "version": self.version,
                    "journal_time": begin + at * day, "artifact_sha256": "", "threshold": 0.5, "share": 0.25, "reason": HOSTILE, "operator": "",
                    "figures": {"e_value": 33.0},
                }
                for i, (event, at) in enumerate(events)
            ],
            DECISIONS: [
                {"decision_id": "d3", "model": MODEL, "journal_time": 0, "trigger": "manual", "operator": "Ada", "reason": "", "figures": {}},
            ],
            TRIALS: [
                {
                    "model": MODEL, "slice": "", "champion_version": "old", "challenger_version": self.version, "stage": "shadow", "labels": 1_234,
                    "champion_loss": 0.5, "challenger_loss": 0.4375, "journal_time": 0,
                },
            ],
            INCIDENTS: [
                {
                    "incident_id": "i", "model": MODEL, "opened": begin + 41 * day, "status": "open", "journal_time": begin + 41 * day,
                    "severity": "alarm", "root": "view:spending", "likely_cause": HOSTILE, "action": "",
                },
            ],
        }  # fmt: skip
        for table, records in kept.items():
            rows = [history_row(place, record) for place, record in enumerate(records)]
            self.lake.append(table, pa.Table.from_pylist(rows, schema=HISTORY), "h:0", list(range(len(rows))))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    made = Answered(tmp_path_factory.mktemp("card"))
    file = made.folder / "app.yaml"
    words = f'    card: {{intended_use: "{HOSTILE}", limitations: ["Not for {HOSTILE}"]}}\n'
    file.write_text(file.read_text().replace("    training:", words + "    training:"))
    made.archive(30)
    first = made.train(30, "bootstrap")
    made.version, scores, begin = first.version, made.scores(first), made._archived
    made.archive(60, scores)
    made.predictions(begin, scores)
    ModelRegistry(f"sqlite:///{made.folder / 'mlflow.db'}").record(made.plan.application.app, **first.record)
    made.train(60, "schedule", first)
    made.version_log()
    return made


def card(world: Answered, model: str, *options: str) -> tuple[int, str, str]:
    path = world.folder / "card.html"
    path.unlink(missing_ok=True)
    result = CliRunner().invoke(app, ["card", str(world.folder), model, "--lake", str(world.folder / "lake"), "--out", str(path), *options])
    return result.exit_code, " ".join(result.output.split()), path.read_text() if path.exists() else ""


def test_a_card_says_what_the_archive_holds(world: Answered) -> None:
    code, said, page = card(world, MODEL)
    assert code == 0 and world.version in said, "the newest version that has answered, not the newest one"
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    known = (np.arange(len(world.times)) >= np.searchsorted(world.times, world.times[0] // 86_400_000 * 86_400_000 + 30 * 86_400_000)) & (
        np.arange(len(world.times)) < world._archived
    )
    result = world.lake.dataset("outcomes").to_table().to_pylist()
    mine = [(row["label"], row["score"]) for row in result if row["model_version"] == world.version]
    assert len(mine) == known.sum() and f"{len(mine):,} labelled answers" in text
    labels, scores = map(np.array, zip(*mine, strict=True))
    assert f"{roc_auc_score(labels, scores):.3f}" in text and "passed" in text and "first model" not in page.split("<h1>")[0]
    assert "country = ab" in text and "country = cd" in text and "answered as champion" in text
    assert f"{world.version}" in text and "Delta version of vectors" in text and "validation rows" in text and "lock file, SHA-256" in text
    for told in (
        "shadow (answers nobody)",
        "canary 0.25",
        "8.0 promoted",
        "champion 1",
        "lasts",
        "Ada",
        "e value 33",
        "1,234 0.5 0.4375 -0.0625",
        "view:spending",
    ):
        assert told in " ".join(text.split()), told
    # No text is markup, and nothing is loaded.
    assert (
        "<script>alert" not in page
        and page.count(HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;")) == 7
    )
    assert not re.search(r"(src|href)=[\"']?http|@import|url\(", page)


def test_a_version_that_never_answered_has_a_card_without_answers(world: Answered) -> None:
    other = next(one for one in versions(world) if one != world.version)
    code, _, page = card(world, f"{MODEL}@{other}")
    assert code == 0 and "never answered" in page and "There is no registry beside the archive, or it does not know this version" in page
    assert "It never left the registry" in page
    assert "refit of" in page, "the verdict is in the training's own record, too"


def test_what_is_not_there_is_said_with_what_is(world: Answered, tmp_path: Path) -> None:
    code, said, _ = card(world, "nobody")
    assert code == 2 and MODEL in said
    code, said, page = card(world, f"{MODEL}@2019-01-01-000000")
    assert code == 2 and world.version in said and not page
    code, said, _ = card(world, MODEL, "--artifacts", str(tmp_path))
    assert code == 2 and "nothing was trained yet" in said


def versions(world: Answered) -> list[str]:
    from tidemill.cards.facts import versions_of

    return list(versions_of(world.store, MODEL))
