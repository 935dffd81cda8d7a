"""All processes of a run, and what an action does to them."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from campaigns.simulate.actions import Action
from campaigns.simulate.checks import ViolationError
from campaigns.simulate.faults import Fault, KilledError
from campaigns.simulate.process import EXPLANATIONS, GATHERED, PoisonError, Process, membership
from campaigns.simulate.traffic import JUNK
from campaigns.simulate.world import World
from tidemill.shared.log.broker import BrokerUnreachableError, FencedError, OffsetLostError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.service.stage import FUSED, FUSIBLE

_RUSHED = 1_000_000


class UnexpectedEndError(AssertionError):
    """A process ended with an error that no fault explains."""


class System:
    """Processes by name, zombies, and the count of faults that struck.

    Parameters
    ----------
    after_step
        Called after every step of a process that may have made anything visible: the safety checks.
    """

    def __init__(self, world: World, after_step: Callable[[], None]) -> None:
        self.world = world
        self.faults: Counter[str] = Counter()
        self.records: Counter[str] = Counter()
        self.processes: dict[str, Process] = {}
        self.zombies: list[Process] = []
        self.ended: Counter[str] = Counter()
        self._after_step = after_step
        mixed = (FUSED, "separate")
        chosen = world.settings.topology
        self._topology = {str(number): mixed[number % 2] if chosen == "mixed" else chosen for number in range(world.settings.instances)}
        self._departed: dict[str, None] = {}

    def actors(self) -> list[str]:
        """Return who should be up."""
        names = []
        for instance, topology in self._topology.items():
            lead = (FUSED,) if topology == FUSED else FUSIBLE
            beside = (EXPLANATIONS,) if self.world.settings.explains else ()
            names += [f"{stage}/{instance}" for stage in (*lead, "outcomes", *beside, "archive")]
        return names + [f"{stage}/0" for stage in GATHERED]

    def sessions(self) -> list[str]:
        """Return who may be known to its group: who should be up, and who has gone without telling it."""
        return list(dict.fromkeys([*self.actors(), *self._departed]))

    def bury(self) -> None:
        """End all zombies and whoever should not be up, and let the groups learn who has gone."""
        for name in [name for name in self.processes if name not in self.actors()]:
            self.zombies.append(self.processes.pop(name))
        for process in self.zombies:
            process.points.dead = True
            # One that joined its group only after its session had been ended is a member again.
            self._departed[f"{process.stage}/{process.instance}"] = None
        self.zombies.clear()
        for name in [name for name in self._departed if name not in self.processes]:
            stage, _, instance = name.partition("/")
            self.world.broker.expire_member(*membership(stage, instance))
            self.world.broker.expire_transactions(f"shop-{stage}-{instance}")
        self._departed.clear()

    def do(self, action: Action) -> None:
        """Carry out an action; one that has nothing to act on does nothing."""
        getattr(self, f"_{action.kind}")(action)

    def step(self, name: str) -> bool:
        """Step a process that is up; one that dies of a fault is down afterwards."""
        process = self.processes.get(name)
        if process is None or process.busy:
            return False
        committed = self._run(process)
        if process.points.dead and self.processes.get(name) is process:
            del self.processes[name]
            # Whoever is never started again, as another topology takes over, is known to its group until its session ends.
            self._departed[name] = None
        return committed

    def start(self, name: str) -> None:
        """Start a process that is down."""
        if name in self.processes:
            return
        stage, _, instance = name.partition("/")
        self._departed.pop(name, None)
        self.processes[name] = Process(self.world, stage, instance, self._struck)

    def _run(self, process: Process) -> bool:
        struck = self.faults.total()
        try:
            committed = process.step()
        except KilledError:
            committed = False
        except (FencedError, BrokerUnreachableError, TransientError, PoisonError) as problem:
            self.ended[type(problem).__name__] += 1
            committed = False
        except RuntimeError as problem:
            if not isinstance(problem.__cause__, TransientError):
                raise UnexpectedEndError(f"{process.transactional_id}: {type(problem).__name__}: {problem}") from problem
            self.ended["retries"] += 1
            committed = False
        except (ViolationError, UnexpectedEndError, OffsetLostError) as problem:
            if isinstance(problem, OffsetLostError) and process not in self.zombies:
                raise UnexpectedEndError(f"{process.transactional_id}: {problem}") from problem
            raise
        except Exception as problem:
            raise UnexpectedEndError(f"{process.transactional_id}: {type(problem).__name__}: {problem}") from problem
        # Only a commit makes anything visible; one that a fault struck is not known to its process.
        if committed or self.faults.total() > struck:
            self._after_step()
        return committed

    def _struck(self, fault: Fault) -> None:
        self.faults[f"{fault.point} {fault.mode}"] += 1

    def _step(self, action: Action) -> None:
        self.step(action.actor)

    def _zombie(self, action: Action) -> None:
        alive = [process for process in self.zombies if not process.busy]
        if alive:
            process = alive[action.number % len(alive)]
            with suppress(OffsetLostError):  # What it wants to read may have been deleted: nothing that was not read by its successor.
                self._run(process)
            if process.points.dead:
                self.zombies.remove(process)

    def _fault(self, action: Action) -> None:
        process = self.processes.get(action.actor)
        if process is not None:
            point, _, mode = action.text.partition(":")

            def meanwhile() -> None:
                for one in action.inner:
                    self.do(one)

            process.points.arm(Fault(point, mode, action.number, meanwhile))

    def _kill(self, action: Action) -> None:
        process = self.processes.get(action.actor)
        if process is not None and not process.busy:
            process.points.dead = True
            del self.processes[action.actor]
            self._departed[action.actor] = None
            self.faults["kill"] += 1

    def _start(self, action: Action) -> None:
        self.start(action.actor)

    def _expire(self, action: Action) -> None:
        """End a session. The process, if there is one, lives on and does not know it yet; its place is free for a successor."""
        stage, _, instance = action.actor.partition("/")
        process = self.processes.pop(action.actor, None)
        if process is not None:
            self.zombies.append(process)
            self.faults["zombie"] += 1
        else:
            self.faults["session"] += 1
        self.world.broker.expire_member(*membership(stage, instance))
        self.world.broker.expire_transactions(f"shop-{stage}-{instance}")
        self._departed.pop(action.actor, None)

    def _publish(self, action: Action) -> None:
        self.world.publish(action.text, action.number)
        self.records[action.text] += 1

    def _flood(self, action: Action) -> None:
        for number in range(action.number):
            self.world.publish(JUNK, number)
            self.records[JUNK] += 1
        self.faults["flood"] += 1

    def _resume(self, action: Action) -> None:
        self.world.resume()

    def _rush(self, action: Action) -> None:
        """Publish orders one after the other, and let everybody work on each."""
        for number in range(action.number):
            self._publish(Action("publish", number=_RUSHED + number, text="order"))
            self.world.clock.advance(110)
            for name in self.actors():
                self.step(name)

    def _slow(self, action: Action) -> None:
        """Let challengers take so many microseconds more to score."""
        if self.world.scoring_clock is not None:
            self.world.scoring_clock.slow_down(action.number * 1_000)

    def _command(self, action: Action) -> None:
        self.world.command(action.text)
        self.faults["command"] += 1

    def _compact(self, action: Action) -> None:
        """Let the broker compact the topics that the catalogue says it may."""
        for topic in self.world.compacted:
            self.world.broker.compact(topic)
        self.faults["compaction"] += 1

    def _retain(self, action: Action) -> None:
        """Let retention delete the raw records that have been read: nobody may need them again."""
        broker = self.world.broker
        for place, position in broker.group("shop-ingestion").committed.items():
            broker.delete_records(place, position)
        self.faults["retention"] += 1

    def _advance(self, action: Action) -> None:
        self.world.clock.advance(action.number)

    def _jump(self, action: Action) -> None:
        self.world.clock.jump(action.number)
        self.faults["clock"] += 1

    def _flush(self, action: Action) -> None:
        self.world.memory.flush()
        self.faults["store flushed"] += 1

    def _away(self, action: Action) -> None:
        self.world.memory.away = bool(action.number)
        self.faults["store away"] += action.number

    def _tear(self, action: Action) -> None:
        """Cut the crash log of a process that is down: its last write never reached the disk as a whole."""
        stage, _, instance = action.actor.partition("/")
        if action.actor in self.processes:
            return
        for path in sorted((self.world.folder / "state" / f"{stage}-{instance}").glob("*.json")):
            path.write_bytes(path.read_bytes()[: action.number])
            self.faults["crash log torn"] += 1

    def _handover(self, action: Action) -> None:
        """Let every instance run the other topology; what it ran before is killed, or (number 1) goes on without anybody's knowing."""
        for instance, before in self._topology.items():
            self._topology[instance] = "separate" if before == FUSED else FUSED
            self._depart(instance, (*FUSIBLE, FUSED), bool(action.number))
        self.faults["hand-over"] += 1

    def _intrude(self, action: Action) -> None:
        """Let a whole instance of another name join, or go again: killed, or (number 1) still there without anybody's knowing."""
        if self._topology.pop(action.actor, None) is None:
            self._topology[action.actor] = action.text
            for name in self.actors():
                if name.endswith(f"/{action.actor}"):
                    self.start(name)
            self.faults["intruder"] += 1
        else:
            self._depart(action.actor, (*FUSIBLE, FUSED, "outcomes", EXPLANATIONS, "archive"), bool(action.number))

    def read_by(self, stage: str) -> int:
        """Return how far the processes of a stage have read, committed or not."""
        return sum(process.has_read for process in self.processes.values() if stage in process.stages)

    def _depart(self, instance: str, stages: Sequence[str], lives_on: bool) -> None:
        for name in [f"{stage}/{instance}" for stage in stages]:
            process = self.processes.pop(name, None)
            # The group may know it even if it was down.
            self._departed[name] = None
            if process is not None and lives_on:
                self.zombies.append(process)
            elif process is not None:
                process.points.dead = True

    def _forget(self, action: Action) -> None:
        """Delete the offsets of a group, as their retention does."""
        group = f"shop-{action.actor}"
        self.world.broker.group(group).committed.clear()
        self.world.forgotten.add(group)
        self.faults["offsets gone"] += 1
