"""The worker's fold on records that no stage writes: it goes on."""

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.retraining.worker_world import MODEL, World, result
from tidemill.shared.models.deployments import Lifecycles

TIMES = [0, -1, 2**62, -(2**62), 253_402_300_799_999, 10**15]
NUMBERS = [0.0, 1.0, -1.0, 0.1, math.nan, math.inf, -math.inf, 1e308]
TEXTS = ["", "v1", "v2", "v99", "x" * 3_000, "\x00\x1b[31m", "nan", MODEL]
COMMANDS = ["roll_back", "promote", "promote_refit", "step_back", "canary", "ab", "pin", "unpin", "unheard-of"]
EVENTS = ["registered", "gate_passed", "gate_refused", "shadow", "canary", "ab", "promoted", "rolled_back", "stepped_back", "pinned", "retired", "?"]


class Hostile:
    """Draws what comes to the worker, step by step."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self.world, self.draw, self.now, self.asked = World(folder), random.Random(seed), 100, 0

    def ask(self) -> None:
        draw = self.draw
        self.asked, self.now = self.asked + 1, self.now + draw.randint(0, 50)
        odd: dict[str, list[Any]] = {
            "version": TEXTS, "serving": TEXTS, "model": [MODEL, "gone", ""], "share": NUMBERS, "sequence": TIMES, "reason": TEXTS,
            "issued_at": TIMES[:3], "figures": [{"auc": math.nan}, {"": math.inf}],
        }  # fmt: skip
        more = {name: draw.choice(values) for name, values in odd.items() if draw.random() < 0.15}
        number = draw.randint(1, self.asked) if draw.random() < 0.1 else self.asked
        at = draw.choice(TIMES) if draw.random() < 0.1 else self.now
        action = draw.choice(["train"] * 9 + COMMANDS)
        self.world.request(number, at, action, draw.choice(["requested"] * 9 + ["skipped", "?"]), **more)

    def step(self) -> None:
        draw, world = self.draw, self.world
        for _ in range(draw.randint(0, 3)):
            self.ask()
        for stage in ("control", "archive"):
            if draw.random() < 0.7:
                world.cover(stage, draw.choice(TIMES) if draw.random() < 0.05 else self.now + 10)
        trained = world.trainer.asked[-1] if world.trainer.asked else None
        if draw.random() < 0.5:
            back = draw.random() < 0.2 and trained is not None and bool(trained.predecessor)
            come = result(f"v{draw.randint(1, 12)}", draw.random() < 0.7, back, draw.random() < 0.85)
            odd: dict[str, Any] = {
                "figures": {draw.choice(TEXTS): draw.choice(NUMBERS)},
                "threshold": draw.choice(NUMBERS),
                "details": {"admission": "?"},
            }
            world.trainer.result = replace(come, **{name: value for name, value in odd.items() if draw.random() < 0.3})
        world.step()


@pytest.mark.parametrize("seed", range(3))
def test_decisions_that_control_never_takes_end_nothing(tmp_path: Path, seed: int) -> None:
    hostile = Hostile(tmp_path / "application", seed)
    for _ in range(80):
        hostile.step()
    assert {"finished", "failed", "refused"} <= {record["event"] for record in hostile.world.said(hostile.world.plan.topics.retraining)}
    assert Lifecycles().follow(hostile.world.said(hostile.world.plan.topics.deployments)).of(MODEL).head > 20


@pytest.mark.parametrize("seed", range(3))
def test_what_strangers_write_into_its_memory_ends_no_start(tmp_path: Path, seed: int) -> None:
    """It would be set aside for good: what it is brought back from is its own."""
    draw, world = random.Random(seed), World(tmp_path)
    topics = world.plan.topics
    place = {"journal_partition": 0, "journal_offset": 0}
    for _ in range(100):
        written = {
            **place, "sequence": draw.choice([0, 1, 2, *TIMES]), "parent": draw.choice([-1, 0, 1, *TIMES]), "decision_id": draw.choice("ab"),
            "model": draw.choice([MODEL, MODEL, "gone"]), "event": draw.choice(EVENTS), "version": draw.choice(TEXTS),
            "journal_time": draw.choice(TIMES), "share": draw.choice(NUMBERS), "threshold": draw.choice(NUMBERS),
            "figures": {"": draw.choice(NUMBERS)}, "details": {draw.choice(["family", "trial", "level", "recipe"]): draw.choice(TEXTS)},
            "classes": draw.choice([None, [], ["a", "a"]]), "issued_at": None,
            **dict.fromkeys(("artifact_sha256", "artifact_uri", "reason", "operator", "command_id"), ""),
        }  # fmt: skip
        world.add(topics.deployments, written)
        said = draw.choice(["started", "finished", "failed", "refused", "queued", "step", "requested", "?"])
        told = {draw.choice(["place", "action", "cause"]): draw.choice(TEXTS)} if draw.random() < 0.8 else {}
        record = {
            **place,
            "decision_id": draw.choice("abc"),
            "model": MODEL,
            "event": said,
            "trigger": "",
            "reason": "",
            "figures": {},
            "details": told,
        }
        world.add(topics.retraining, {**record, "journal_time": draw.choice(TIMES)})
    world.restart()
    world.request(1, 2_000)
    world.cover("control", 3_000)
    world.cover("archive", 3_000)
    world.step()
    assert world.said(topics.retraining)[-1]["event"] == "started"
