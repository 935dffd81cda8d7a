"""Decides what happens next: one seed, one sequence of decisions."""

import random

from campaigns.simulate.actions import Action
from campaigns.simulate.faults import MODES
from campaigns.simulate.process import EXPLANATIONS, STAGES
from campaigns.simulate.system import System
from campaigns.simulate.traffic import HOSTILE, POISONS
from tidemill.shared.service.stage import FUSED, FUSIBLE

_EVERYWHERE = (
    "broker.members",
    "source.consume", "source.committed", "reader.read", "reader.watermarks", "sink.open", "sink.begin", "sink.produce", "sink.send_offsets",
    "sink.commit", "sink.commit", "sink.commit", "sink.abort", "registry.register", "registry.schema",
)  # fmt: skip
_OF_STAGE = {"features": ("store.write", "store.standing"), "archive": ("lake.append", "lake.append"), "scoring": ("artifacts.get",)}
_OF_STAGE[EXPLANATIONS] = _OF_STAGE["scoring"]
_OF_STAGE[FUSED] = (*_OF_STAGE["features"], *_OF_STAGE["scoring"])
_WEIGHTS = {
    "step": 50, "publish": 14, "fault": 26, "start": 16, "advance": 6, "zombie": 2, "expire": 1.2, "kill": 1, "jump": 0.3, "flush": 0.2, "away": 0.3,
    "tear": 0.3, "handover": 0.15, "intrude": 1, "compact": 0.4, "retain": 0.2, "forget": 0.1,
}  # fmt: skip

# Of the actions, in two of three runs: a run without floods is another world.
_FLOOD_RATIO = 0.008
_COMMAND_RATIO = 0.02
_COMMANDS = ("retrain", "retrain", "retrain", "retrain", "promote", "promote", "step_back", "roll_back", "pin", "unpin", "unpin", "ab")


class Scheduler:
    """Draws actions for a system.

    Parameters
    ----------
    hostile_ratio, poison_ratio
        Shares of hostile ones, and of those that crash a stage, among the records.
    """

    def __init__(self, seed: int, system: System, hostile_ratio: float = 0.2, poison_ratio: float = 0.015) -> None:
        self._rng = random.Random(f"schedule-{seed}")
        self._system = system
        self._hostile_ratio, self._poison_ratio = hostile_ratio, poison_ratio
        # Draws of its own, so that what else a seed does stays what it was.
        self._flood_rng = random.Random(f"floods-{seed}")
        self._flood_ratio = _FLOOD_RATIO if seed % 3 != 1 else 0.0
        self._command_rng = random.Random(f"commands-{seed}")
        self._explains = system.world.settings.explains
        self._numbers: dict[str, int] = {}
        self._kinds, self._shares = tuple(_WEIGHTS), tuple(_WEIGHTS.values())

    def next(self) -> Action:
        """Draw the next action."""
        if self._flood_rng.random() < self._flood_ratio:
            return Action("resume") if self._flood_rng.random() < 0.6 else Action("flood", number=self._flood_rng.choice((5, 25, 60)))
        if self._command_rng.random() < _COMMAND_RATIO:
            return Action("command", text=self._command_rng.choice(_COMMANDS))
        kind = self._rng.choices(self._kinds, self._shares)[0]
        if kind == "fault":
            return self._fault(self._rng.choice(self._system.actors()))
        return self._simple(kind)

    def _simple(self, kind: str) -> Action:
        rng = self._rng
        if kind == "publish":
            return self._record()
        if kind == "advance":
            return Action("advance", number=rng.choice((1, 20, 150, 400, 1_100)))
        if kind == "jump":
            return Action("jump", number=rng.choice((-4_000, -700, 900, 5_000)))
        if kind == "zombie":
            return Action("zombie", number=rng.randrange(8))
        if kind == "away":
            return Action("away", number=int(not self._system.world.memory.away))
        if kind == "start":
            down = [name for name in self._system.actors() if name not in self._system.processes]
            return Action("start", rng.choice(down)) if down else self._step()
        if kind == "tear":
            return Action("tear", rng.choice(self._system.actors()), number=rng.choice((0, 1, 40)))
        if kind == "handover":
            return Action("handover", number=rng.randrange(2))
        if kind in ("flush", "compact", "retain"):
            return Action(kind)
        if kind == "intrude":
            return Action("intrude", rng.choice(("a", "z")), rng.randrange(2), rng.choice((FUSED, "separate")))
        if kind == "forget":
            return Action("forget", rng.choice((*STAGES, EXPLANATIONS) if self._explains else STAGES))
        if kind == "expire":
            return Action("expire", rng.choice(self._system.sessions()))
        if kind == "kill":
            return Action("kill", rng.choice(self._system.actors()))
        return self._step()

    def _step(self) -> Action:
        return Action("step", self._rng.choice(self._system.actors()))

    def _record(self) -> Action:
        rng = self._rng
        if rng.random() < self._poison_ratio:
            kind = rng.choice(POISONS if self._explains else POISONS[:-1])
        elif rng.random() < self._hostile_ratio:
            kind = rng.choice(tuple(HOSTILE))
        else:
            kind = rng.choices(("order", "verdict", "customer"), (50, 42, 8))[0]
        counted = "order" if kind == "duplicate" else kind
        number = self._numbers.get(counted, 0)
        if kind != "duplicate":
            self._numbers[kind] = number + 1
        return Action("publish", number=number, text=kind)

    def _fault(self, actor: str) -> Action:
        rng = self._rng
        stage = actor.partition("/")[0]
        point = rng.choice((*_EVERYWHERE, *_OF_STAGE.get(stage, ()) * 2))
        mode = rng.choice(MODES)
        skip = rng.choice((0, 0, 0, 1, 2, 5)) if point in ("sink.produce", "reader.read", "registry.register", "source.consume") else 0
        inner: list[Action] = []
        if mode == "pause":
            if rng.random() < 0.5:
                inner += [Action("expire", actor), Action("start", actor), *[Action("step", actor)] * rng.randint(1, 5)]
            related = [name for name in self._system.actors() if name.startswith((stage, *FUSIBLE))]
            for _ in range(rng.randint(1, 5)):
                inner.append(rng.choice((Action("step", rng.choice(related)), self._record(), Action("advance", number=150))))
        return Action("fault", actor, skip, f"{point}:{mode}", tuple(inner))
