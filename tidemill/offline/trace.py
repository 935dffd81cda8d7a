"""One request from its event to what was learned from it, read from the archive and the store of models."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tidemill.offline.contributions import ArchivedRequest, Contribution, Contributions
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.dated_rows import dated_rows
from tidemill.shared.avro.times import instant_text
from tidemill.shared.lake.journal import ArchivedJournal, UnfitArchiveError
from tidemill.shared.lake.names import OUTCOMES, PREDICTIONS, SHADOW_SCORES, VECTORS, journal_table
from tidemill.shared.lake.tables import Lake, milliseconds
from tidemill.shared.models.artifacts import Artifact, ArtifactStore

_DAY_MS = 86_400_000


class UnknownRequestError(LookupError):
    """The archive has no request of that id: the message says what it has and where to look."""


@dataclass(frozen=True, slots=True)
class FeatureTrace:
    """One column of the vector as it was served, and the journal records that made it; None for a column of the request itself."""

    name: str
    value: float | str | None
    made_of: Contribution | None


@dataclass(frozen=True, slots=True)
class ModelTrace:
    """A version as its artifact describes it.

    Attributes
    ----------
    learned_until_ms
        Requests before it taught.
    details
        Everything else that the training wrote down.
    """

    model: str
    version: str
    sha256: str
    family: str
    learned_until_ms: int | None
    details: dict[str, str]


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of one request.

    Attributes
    ----------
    source
        Raw topic, partition and offset of its record.
    predictions, outcomes
        As they were published, times in milliseconds; outcomes in the order they came.
    served_by
        The versions that answered, as far as the store has them.
    taught, judged
        Versions that learned from this request; versions that were judged on it.
    shadow_scores
        What champion and challenger said where something was tried, with the share, what the request drew, and who answered.
    """

    request_id: str
    asking: ArchivedRequest
    source: tuple[str, int, int]
    late: bool
    features: list[FeatureTrace]
    predictions: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    served_by: list[ModelTrace]
    taught: list[ModelTrace]
    judged: list[ModelTrace]
    shadow_scores: list[dict[str, Any]] = field(default_factory=list)


def trace_request(plan: Plan, lake: Lake, store: ArtifactStore | None, request_id: str, newest: int = 3) -> Trace:
    """Follow a request by the id of its event.

    Parameters
    ----------
    newest
        How many records of a feature are named.

    Raises
    ------
    UnknownRequestError
        The archive has no such request.
    UnfitArchiveError
        There is no archive, or not this application's.
    ArtifactError, TransientError
        The store of models is damaged, or does not answer.
    """
    vector = served_vector(plan, lake, request_id)
    journal = ArchivedJournal(lake, plan)
    stream, partition, offset = vector["_ask"], vector["_journal_partition"], vector["_journal_offset"]
    places, entries = journal.of_stream(stream, partition, offset, _event_id=request_id)
    if not len(places):
        raise UnfitArchiveError(f"expected the entry of {request_id} at {partition}@{offset} of {lake.uri(journal_table(stream))}, found none")
    entry = milliseconds(pa.Table.from_batches([entries.slice(entries.num_rows - 1)])).to_pylist()[0]
    asking = ArchivedRequest(stream, partition, offset, vector["_journal_time"], dated_rows(entries.slice(entries.num_rows - 1))[0])
    contributions = Contributions(plan, journal, asking, newest)
    at = (ds.field("journal_partition") == partition) & (ds.field("journal_offset") == offset)
    asked = (ds.field("journal_partition") == partition) & (ds.field("request_journal_offset") == offset)
    predictions = rows_of(lake, PREDICTIONS, at)
    outcomes = sorted(rows_of(lake, OUTCOMES, asked), key=lambda row: (row["model"], row["journal_time"], row["journal_offset"], row["revision"]))
    models = _models(store) if store is not None else []
    answered = {(row["model"], row["model_version"]) for row in predictions}
    return Trace(
        request_id,
        asking,
        (plan.streams[stream].topic, entry["_source_partition"], entry["_source_offset"]),
        bool(vector["_late"]),
        [FeatureTrace(one.name, vector[one.name], contributions.of(one.name)) for one in plan.features if one.name in vector],
        predictions,
        outcomes,
        [one for one in models if (one.model, one.version) in answered],
        [one for one in models if _has_learned(one, asking.journal_time_ms, outcomes)],
        [one for one in models if _was_judged(one, asking.journal_time_ms, outcomes)],
        rows_of(lake, SHADOW_SCORES, at),
    )


def served_vector(plan: Plan, lake: Lake, request_id: str) -> dict[str, Any]:
    """Return the vector of a request as it was served, times in milliseconds; UnknownRequestError, UnfitArchiveError."""
    if not lake.exists(VECTORS):
        raise UnfitArchiveError(f"expected archived vectors in {lake.uri(VECTORS)}, found none; the archive writes them; look at --run, --lake")
    rows = rows_of(lake, VECTORS, ds.field("_request_id") == request_id)
    if rows:
        # The id of an event that came again after it was forgotten is a new request's; the last one is meant.
        return max(rows, key=lambda row: (row["_journal_time"], row["_journal_offset"]))
    for name, stream in plan.streams.items():
        if stream.event_id is None or not rows_of(lake, journal_table(name), ds.field("_event_id") == request_id):
            continue
        if name in plan.asking_streams:
            raise UnknownRequestError(
                f"expected the vector of the request {request_id} in {lake.uri(VECTORS)}, found its event in the journal only: the vectors of its"
                f" time were pruned ({_oldest(lake)}), or are archived in a moment; take a later request, or a copy of the lake that still has it"
                " (--lake)"
            )
        raise UnknownRequestError(f"{request_id} is an event of {name}, which no model asks: trace a request of {', '.join(plan.asking_streams)}")
    raise UnknownRequestError(
        f"expected the id of a request ({', '.join(plan.asking_streams)}) in {lake.root}, found none {request_id!r}. What was refused is among the"
        " dead letters (`tidemill dead-letters list`); what has just come is archived half a minute later"
    )


def _oldest(lake: Lake) -> str:
    """Say when the archived vectors begin."""
    times = milliseconds(lake.dataset(VECTORS).to_table(columns=["_journal_time"])).column("_journal_time")
    return f"the oldest is of {instant_text(int(pc.min(times).as_py()))}" if len(times) else "there are none"


def rows_of(lake: Lake, table: str, wanted: ds.Expression) -> list[dict[str, Any]]:
    """Return rows of a table, times in milliseconds; none where there is no table."""
    if not lake.exists(table):
        return []
    rows: list[dict[str, Any]] = milliseconds(lake.dataset(table).to_table(filter=wanted)).to_pylist()
    return rows


def _models(store: ArtifactStore) -> list[ModelTrace]:
    models = []
    for address in store.addresses():
        signature = Artifact.from_bytes(store.get(address)).signature
        until = signature.details.get("learned_until_ms")
        models.append(
            ModelTrace(signature.model, signature.version, address, signature.family, None if until is None else int(until), signature.details)
        )
    return sorted(models, key=lambda one: (one.model, one.learned_until_ms or 0, one.version))


def _known_ms(model: str, outcomes: list[dict[str, Any]]) -> int | None:
    """Return when the first label of a request came; None as long as there is none."""
    times = [row["journal_time"] for row in outcomes if row["model"] == model and row["label"] is not None]
    return min(times, default=None)


def _has_learned(one: ModelTrace, request_ms: int, outcomes: list[dict[str, Any]]) -> bool:
    known_ms, until = _known_ms(one.model, outcomes), one.learned_until_ms
    if known_ms is None or until is None:
        return False
    days = int(one.details.get("window_days", "0"))
    # A label that came after the cut was not known to the training; versions of before it was written down are taken by their last request.
    cut = int(one.details.get("known_until_ms", until))
    return request_ms < until and known_ms < cut and (not days or request_ms >= until - days * _DAY_MS)


def _was_judged(one: ModelTrace, request_ms: int, outcomes: list[dict[str, Any]]) -> bool:
    begin, end = (one.details.get(name) for name in ("judged_from_ms", "judged_until_ms"))
    known_ms, cut = _known_ms(one.model, outcomes), one.details.get("known_until_ms", end)
    if begin is None or end is None or cut is None or known_ms is None:
        return False
    return int(begin) <= request_ms < int(end) and known_ms < int(cut)
