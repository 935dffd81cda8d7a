"""Every answer and every shadow score is what the lifecycle log says, scored again: who was champion, who was tried, and whom the hash chose."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
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


def check_answers(world: World, partition: int) -> tuple[int, int]:
    """Score every vector again; returns how many requests had a challenger, and how many a canary answered.

    Raises
    ------
    ViolationError
    """
    topics = world.plan.topics
    names = (topics.vectors, topics.predictions, topics.shadow_scores)
    vectors, predictions, shadows = (world.read(TopicPartition(name, partition)) for name in names)
    if not len(predictions):
        return 0, 0
    rows = ColumnDecoder(world.registry, world.plan.vector_schema).decode(vectors.values).batch
    place = {offset: row for row, offset in enumerate(int64_ms(rows.column("_journal_offset")).tolist())}
    told = dict(_shadowed(world, shadows))
    history = _History(world)
    groups: dict[tuple[_State, bool], list[int]] = {}
    asked, head = [], 0
    answers = ColumnDecoder(world.registry, schema("prediction")).decode(predictions.values).batch
    sequences, variants = int64_ms(answers.column("deployment_sequence")).tolist(), answers.column("variant").to_pylist()
    for number, (offset, sequence, variant) in enumerate(zip(int64_ms(answers.column("journal_offset")).tolist(), sequences, variants, strict=True)):
        state, failed, _ = told.get(offset, (_State(sequence), False, 0))
        answered = state.challenger if variant == "canary" else state.champion
        if sequence != answered:
            raise ViolationError(f"prediction {number} of partition {partition}: {variant} {sequence} answered, its shadow score says {state}")
        found = next((at for at in range(head, len(history.states)) if history.states[at] == state), None)
        if found is None:
            raise ViolationError(f"prediction {number} of partition {partition}: {state} is no state of the lifecycle log from event {head} on")
        head = found
        groups.setdefault((state, failed), []).append(number)
        asked.append(place[offset])
    _check_groups(world, history, groups, rows, np.array(asked), vectors, predictions, shadows, told, partition)
    return len(told), variants.count("canary")


def _shadowed(world: World, shadows: Records) -> Iterator[tuple[int, tuple[_State, bool, int]]]:
    """Yield the journal offset of each request with a shadow score, whom that names, whether the challenger failed, and its place in the topic."""
    if not len(shadows):
        return
    batch = ColumnDecoder(world.registry, schema("shadow-score")).decode(shadows.values).batch
    offsets = int64_ms(batch.column("journal_offset")).tolist()
    states = [_State(*pair) for pair in zip(*(batch.column(f"{who}_sequence").to_pylist() for who in ("champion", "challenger")), strict=True)]
    reasons = batch.column("challenger_reason").to_pylist()
    if len(set(offsets)) < len(offsets):
        raise ViolationError(f"{shadows.topic}:{shadows.partition}: two shadow scores of one request among {offsets}")
    for number, (offset, state, reason) in enumerate(zip(offsets, states, reasons, strict=True)):
        yield offset, (state, reason == FAILED, number)


def _check_groups(
    world: World,
    history: _History,
    groups: Mapping[tuple[_State, bool], list[int]],
    rows: pa.RecordBatch,
    asked: np.ndarray,
    vectors: Records,
    predictions: Records,
    shadows: Records,
    told: Mapping[int, tuple[_State, bool, int]],
    partition: int,
) -> None:
    topics = world.plan.topics
    encode = message_encoder(world.registry, topics.predictions, "prediction").encode
    encode_shadow = message_encoder(world.registry, topics.shadow_scores, "shadow-score").encode
    offsets = int64_ms(rows.column("_journal_offset")).tolist()
    for (state, failed), numbers in groups.items():
        chosen = asked[numbers]
        again = ScoringCore(world.plan).process(
            rows.take(pa.array(chosen)), history.serving(state, challenger_failed=failed), [vectors.keys[row] for row in chosen.tolist()]
        )
        for number, value in zip(numbers, encode(again.batch), strict=True):
            if predictions.values[number] != value:
                raise ViolationError(f"prediction {number} of partition {partition} is not what is answered in {state}")
        if (again.shadow_scores is None) != (state.challenger == _NOBODY):
            raise ViolationError(f"{state} has shadow scores, or lacks them")
        if again.shadow_scores is not None:
            for row, value in zip(chosen.tolist(), encode_shadow(again.shadow_scores), strict=True):
                number = told[offsets[row]][2]
                if shadows.values[number] != value:
                    raise ViolationError(f"shadow score {number} of partition {partition} is not what is said in {state}")
