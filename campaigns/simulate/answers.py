"""Every answer and every shadow score is what the lifecycle log says, scored again: who was champion, who was tried, and whom the hash chose."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from campaigns.simulate.checks import ViolationError, schema
from campaigns.simulate.world import World
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.serving import Challenge, Serving
from tidemill.services.scoring.loading import FAILED, challenge_of, deployment_of, load_serving
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_encoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.models.deployments import Lifecycles

_MODEL = "fraud"
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class _State:
    """Who serves and who is tried: sequences of the events that began it, -1 for nobody."""

    champion: int = _NOBODY
    challenger: int = _NOBODY


class _History:
    """What the lifecycle log says, event by event."""

    def __init__(self, world: World) -> None:
        codec = RecordCodec(world.registry, "deployment", schema("deployment"))
        lifecycles = Lifecycles()
        self.states, self._champions, self._challenges = [_State()], dict[int, Serving](), dict[int, Challenge]()
        for value in world.read(TopicPartition(world.plan.topics.deployments, 0)).values:
            event = codec.decode(value or b"")
            lifecycles = lifecycles.apply(event)
            now = lifecycles.of(_MODEL)
            if now.ignored:
                raise ViolationError(f"deployment {event['sequence']} ({event['event']}): it was decided on another state than the log's")
            if now.champion is not None:
                self._champions[now.champion.sequence] = load_serving(world.plan, world.artifacts, _MODEL, now.champion)
            if now.challenger is not None:
                loaded = load_serving(world.plan, world.artifacts, _MODEL, deployment_of(now.challenger))
                self._challenges[now.challenger.sequence] = challenge_of(now.challenger, loaded)
            champion, challenger = now.champion, now.challenger
            self.states.append(_State(champion.sequence if champion else _NOBODY, challenger.sequence if challenger else _NOBODY))

    def serving(self, state: _State, *, challenger_failed: bool) -> Mapping[str, Serving]:
        """Return what answers in a state."""
        if state.champion == _NOBODY:
            return {}
        challenge = self._challenges.get(state.challenger)
        serving = replace(self._champions[state.champion], challenge=challenge)
        return {_MODEL: serving.without_challenger(FAILED) if challenger_failed else serving}


@dataclass(frozen=True, slots=True)
class _Shadow:
    """A shadow score as it was read: whom it names, whether the challenger failed, and its place in the topic."""

    state: _State
    failed: bool
    number: int


class _Partition:
    """Vectors, predictions and shadow scores of one partition, as they stand in the topics."""

    def __init__(self, world: World, partition: int) -> None:
        topics = world.plan.topics
        names = (topics.vectors, topics.predictions, topics.shadow_scores)
        self.number = partition
        self.vectors, self.predictions, self.shadow_scores = (world.read(TopicPartition(name, partition)) for name in names)
        self.rows = ColumnDecoder(world.registry, world.plan.vector_schema).decode(self.vectors.values).batch
        self.row = {offset: row for row, offset in enumerate(int64_ms(self.rows.column("_journal_offset")).tolist())}
        self.shadows = _shadows(world, self.shadow_scores)


@dataclass(frozen=True, slots=True)
class _Answered:
    """Predictions that one state of the lifecycle log gave: their numbers in the topic, and the journal offsets of their requests."""

    numbers: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


def check_answers(world: World, partition: int) -> tuple[int, int]:
    """Score every vector again; returns how many requests had a challenger, and how many a canary answered.

    Raises
    ------
    ViolationError
    """
    read = _Partition(world, partition)
    if not len(read.predictions):
        return 0, 0
    history = _History(world)
    groups: dict[tuple[_State, bool], _Answered] = {}
    head = 0
    answers = ColumnDecoder(world.registry, schema("prediction")).decode(read.predictions.values).batch
    sequences, variants = int64_ms(answers.column("deployment_sequence")).tolist(), answers.column("variant").to_pylist()
    for number, (offset, sequence, variant) in enumerate(zip(int64_ms(answers.column("journal_offset")).tolist(), sequences, variants, strict=True)):
        shadow = read.shadows.get(offset)
        state, failed = (_State(sequence), False) if shadow is None else (shadow.state, shadow.failed)
        answered = state.challenger if variant == "canary" else state.champion
        if sequence != answered:
            raise ViolationError(f"prediction {number} of partition {partition}: {variant} {sequence} answered, its shadow score says {state}")
        event = next((at for at in range(head, len(history.states)) if history.states[at] == state), None)
        if event is None:
            raise ViolationError(f"prediction {number} of partition {partition}: {state} is no state of the lifecycle log from event {head} on")
        head = event
        group = groups.setdefault((state, failed), _Answered())
        group.numbers.append(number)
        group.offsets.append(offset)
    for (state, failed), group in groups.items():
        _check_group(world, read, state, history.serving(state, challenger_failed=failed), group)
    return len(read.shadows), variants.count("canary")


def _shadows(world: World, shadow_scores: Records) -> dict[int, _Shadow]:
    """Return the shadow scores by journal offset of their request."""
    if not len(shadow_scores):
        return {}
    batch = ColumnDecoder(world.registry, schema("shadow-score")).decode(shadow_scores.values).batch
    offsets = int64_ms(batch.column("journal_offset")).tolist()
    states = [_State(*pair) for pair in zip(*(batch.column(f"{who}_sequence").to_pylist() for who in ("champion", "challenger")), strict=True)]
    reasons = batch.column("challenger_reason").to_pylist()
    if len(set(offsets)) < len(offsets):
        raise ViolationError(f"{shadow_scores.topic}:{shadow_scores.partition}: two shadow scores of one request among {offsets}")
    return {offset: _Shadow(state, reason == FAILED, n) for n, (offset, state, reason) in enumerate(zip(offsets, states, reasons, strict=True))}


def _check_group(world: World, read: _Partition, state: _State, serving: Mapping[str, Serving], group: _Answered) -> None:
    """Score the requests of a state again and compare both topics, byte for byte."""
    topics = world.plan.topics
    rows = [read.row[offset] for offset in group.offsets]
    again = ScoringCore(world.plan).process(read.rows.take(pa.array(rows)), serving, [read.vectors.keys[row] for row in rows])
    encoded = message_encoder(world.registry, topics.predictions, "prediction").encode(again.batch)
    for number, value in zip(group.numbers, encoded, strict=True):
        if read.predictions.values[number] != value:
            raise ViolationError(f"prediction {number} of partition {read.number} is not what is answered in {state}")
    if (again.shadow_scores is None) != (state.challenger == _NOBODY):
        raise ViolationError(f"{state} has shadow scores, or lacks them")
    if again.shadow_scores is not None:
        encoded = message_encoder(world.registry, topics.shadow_scores, "shadow-score").encode(again.shadow_scores)
        for offset, value in zip(group.offsets, encoded, strict=True):
            number = read.shadows[offset].number
            if read.shadow_scores.values[number] != value:
                raise ViolationError(f"shadow score {number} of partition {read.number} is not what is said in {state}")
