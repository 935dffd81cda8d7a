"""Any order of promotions and operators' commands: the lifecycle is that of a plain list of champions with a flag."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.long_forms import examples
from tidemill.services.retraining.domain.first_stage import held_back
from tidemill.services.retraining.domain.lifecycle_commands import obey
from tidemill.services.retraining.domain.waiting_candidate import WaitingCandidate, waits
from tidemill.shared.application.stages import CanaryStage, ShadowStage, Stages
from tidemill.shared.models.deployments import Lifecycle

TRIED = st.sampled_from(["", *(f"c{number}" for number in range(4))])
COMPARED = st.sampled_from(["", "v0", "v1", "v2", "c0", "c1", "c2", "c3"])
REFITS = {"c0", "c2"}
"""Versions of the champion's recipe."""
VERSIONS = st.sampled_from(["", *(f"v{number}" for number in range(8))])


class Operators(RuleBasedStateMachine):
    """Applies events as the worker appends them, and keeps the oracle beside."""

    def __init__(self) -> None:
        super().__init__()
        self.lifecycle = Lifecycle()
        self.champions: list[str] = []
        self.challenger: tuple[str, str] | None = None
        self.registered: list[str] = []
        self.pinned = False
        self.made = 0
        self.log: list[dict[str, Any]] = []
        self.waiting = WaitingCandidate()
        self.waits: tuple[str, str] | None = None

    def append(self, event: str, version: str, sha: str = "", reason: str = "", details: dict[str, str] | None = None) -> None:
        record = {
            "sequence": self.lifecycle.head + 1, "parent": self.lifecycle.head, "model": "m", "event": event, "version": version,
            "artifact_sha256": sha or f"sha-{version}", "threshold": 0.5, "reason": reason, "operator": "ann", "share": 0.1,
            "journal_time": 1_000 * len(self.log), "journal_partition": 0, "journal_offset": 0, "details": details or {},
        }  # fmt: skip
        self.log.append(record)
        before, self.lifecycle = self.lifecycle, self.lifecycle.apply(record)
        self.waiting = self.waiting.deployed(record, before, self.lifecycle)

    def command(self, action: str, version: str, stale: bool) -> str:
        serving = ("elsewhere" if stale else self.champions[-1]) if self.champions else ""
        obeyed = obey({"action": action, "version": version, "serving": serving, "reason": "because"}, self.lifecycle, REFITS.__contains__)
        self.append(obeyed.event, obeyed.deployment.version, obeyed.deployment.artifact_sha256, obeyed.reason)
        if obeyed.event == "command_refused":
            assert obeyed.reason.startswith(f"{action}: ") and len(obeyed.reason) > len(action) + 10
        return obeyed.event

    def forget(self, version: str) -> None:
        """A version that is tried, or serves, waits no more."""
        if self.waits is not None and self.waits[0] == version:
            self.waits = None

    @property
    def is_held(self) -> bool:
        """Whether what was trained goes nowhere: a version is pinned, or two are compared."""
        return self.pinned or (self.challenger is not None and self.challenger[1] == "ab")

    @rule()
    def promote(self) -> None:
        assert bool(held_back(self.lifecycle)) == self.is_held
        if not self.is_held:
            self.made += 1
            self.append("promoted", f"v{self.made % 8}")
            self.champions.append(f"v{self.made % 8}")
            self.challenger = None

    @rule()
    def refit_beside_a_trial(self) -> None:
        """The champion's recipe has been trained again: the trial of another recipe goes on, and nothing of it changes."""
        if self.champions and not self.is_held:
            self.made += 1
            self.append("promoted", f"v{self.made % 8}", details={"trial": "goes on"})
            self.champions.append(f"v{self.made % 8}")

    @rule(number=st.integers(0, 3), stage=st.sampled_from(["shadow", "canary", "ab"]))
    def try_a_candidate(self, number: int, stage: str) -> None:
        """A training has ended with a candidate: a newer one supersedes the one that is tried, but for one that is compared."""
        self.append("registered", f"c{number}")
        self.registered.append(f"c{number}")
        details = waits(self.lifecycle)
        self.append("gate_passed", f"c{number}", details=details)
        compares = self.challenger is not None and self.challenger[1] == "ab"
        assert bool(details) == (compares and not self.pinned)
        self.waits = (f"c{number}", self.champions[-1]) if details else None
        if self.champions and not self.is_held:
            self.append(stage, f"c{number}")
            self.challenger = f"c{number}", stage

    @rule(stages=st.sampled_from([Stages(), Stages(shadow=ShadowStage()), Stages(canary=CanaryStage())]))
    def look_after_the_one_that_waits(self, stages: Stages) -> None:
        """Every step of the worker looks; what is tried then, or refused, is looked at once."""
        goes = self.waiting.freed(self.lifecycle, stages)
        if self.waits is None or self.is_held:
            assert goes is None
            return
        assert goes is not None
        version, against = self.waits
        unchanged = self.champions[-1] == against
        first = "shadow" if stages.shadow else "canary" if stages.canary else "promoted"
        if isinstance(goes, str):
            assert not unchanged and first == "promoted" and f"found {self.champions[-1]}" in goes
            self.append("gate_refused", version, reason=goes)
        else:
            assert goes.event == first and (unchanged or first != "promoted")
            self.append(first, version)
            if first == "promoted":
                self.champions.append(version)
            self.challenger = None if first == "promoted" else (version, first)
        self.waits = None
        assert self.waiting.event is None

    @rule(action=st.sampled_from(["canary", "promote", "promote_refit", "step_back"]), version=TRIED, stale=st.booleans())
    def decide_on_the_challenger(self, action: str, version: str, stale: bool) -> None:
        """Control and operators decide late: on a challenger that left, on another stage, on one that was superseded."""
        tried, stage = self.challenger or ("", "")
        possible = bool(tried) and not self.pinned and version in ("", tried) and not (stale and self.champions)
        possible = possible and (action != "canary" or stage == "shadow") and (action != "promote_refit" or tried in REFITS)
        done = {"canary": "canary", "promote": "promoted", "promote_refit": "promoted", "step_back": "stepped_back"}[action]
        assert self.command(action, version, stale) == (done if possible else "command_refused")
        if possible and action.startswith("promote"):
            self.champions.append(tried)
            self.forget(tried)
        if possible:
            if action == "canary":
                self.forget(tried)
            self.challenger = (tried, "canary") if action == "canary" else None

    @rule(version=COMPARED, stale=st.booleans())
    def compare(self, version: str, stale: bool) -> None:
        """Control after a canary, or an operator; two operators at once begin one test."""
        tried, stage = self.challenger or ("", "")
        known = version in (*self.champions[:-1], *self.registered) and version not in self.champions[-1:]
        possible = bool(self.champions) and known and not self.pinned and not stale and (not tried or (tried == version and stage != "ab"))
        assert self.command("ab", version, stale) == ("ab" if possible else "command_refused")
        if possible:
            self.challenger = version, "ab"
            self.forget(version)

    @rule(version=VERSIONS, stale=st.booleans())
    def roll_back(self, version: str, stale: bool) -> None:
        before = self.champions[:-1]
        possible = bool(before) and not self.pinned and not stale and version != self.champions[-1] and (not version or version in before)
        assert self.command("roll_back", version, stale) == ("rolled_back" if possible else "command_refused")
        if possible:
            at = len(before) - 1 - before[::-1].index(version or before[-1])
            target = before[at]
            # A version that served more than once is gone back to where it served last, and is no predecessor of its own.
            self.champions = [*(old for old in before[:at] if old != target), target]
            self.challenger = None

    @rule(version=VERSIONS, stale=st.booleans())
    def pin(self, version: str, stale: bool) -> None:
        possible = bool(self.champions) and not self.pinned and not stale and version in ("", self.champions[-1])
        assert self.command("pin", version, stale) == ("pinned" if possible else "command_refused")
        self.pinned |= possible
        self.challenger = None if possible else self.challenger

    @rule(stale=st.booleans())
    def unpin(self, stale: bool) -> None:
        possible = self.pinned and not stale
        assert self.command("unpin", "", stale) == ("unpinned" if possible else "command_refused")
        self.pinned &= not possible

    @invariant()
    def is_the_list(self) -> None:
        champion = self.lifecycle.champion
        assert [old.version for old in self.lifecycle.retired] == self.champions[:-1]
        assert (champion.version if champion else None) == (self.champions[-1] if self.champions else None)
        challenger = self.lifecycle.challenger
        assert (None if challenger is None else (challenger.version, challenger.stage)) == self.challenger
        assert challenger is None or (not self.pinned and self.log[challenger.sequence]["version"] == challenger.version)
        assert self.lifecycle.compares == (self.challenger is not None and self.challenger[1] == "ab")
        assert [one.version for one in self.lifecycle.registered] == self.registered
        assert challenger is None or challenger.since_ms == self.log[challenger.sequence]["journal_time"]
        assert (self.lifecycle.pin is not None) == self.pinned and self.lifecycle.ignored == 0
        assert self.lifecycle.pin is None or self.lifecycle.pin.version == self.champions[-1]
        assert (None if self.waiting.event is None else self.waiting.event["version"]) == (None if self.waits is None else self.waits[0])

    def teardown(self) -> None:
        """A reader who comes later sees the same, and one who reads everything twice too."""
        again = Lifecycle()
        for event in [*self.log, *self.log]:
            again = again.apply(event)
        seen = self.lifecycle
        assert (again.head, again.champion, again.retired, again.pin, again.challenger, again.registered) == (
            seen.head,
            seen.champion,
            seen.retired,
            seen.pin,
            seen.challenger,
            seen.registered,
        )


TestOperators = Operators.TestCase
TestOperators.settings = settings(max_examples=examples(150), stateful_step_count=30, deadline=None)
