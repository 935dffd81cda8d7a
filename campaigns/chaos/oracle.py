"""What must be so when everything has come to rest, found from topics, lake and Redis alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from campaigns.chaos.trials import judge_trials
from campaigns.hostile.messages import GOOD_ACCOUNTS
from campaigns.hostile.oracle import judge, raw_records
from tidemill.audit.audit_run import audit_topics
from tidemill.audit.history import RunHistory, decoded, prediction_schema, read_history, shadow_score_schema
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.lake.names import OUTCOMES, PREDICTIONS, VECTORS, journal_table
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.store import OnlineStoreUnavailableError

ENTITY = "account"
_SHOWN = 5
_MOVES = ("registered", "gate_refused", "promoted", "shadow", "canary", "ab", "stepped_back", "rolled_back", "command_refused")
# Of hostile disputes: they are entries of the journal, and no labels.
_LABEL_REFUSED = "invalid_label"


@dataclass(slots=True)
class Findings:
    """What was compared, and what is not as it must be (empty when all is)."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Oracle:
    """Looks at what a run left.

    Parameters
    ----------
    lake, artifacts, redis_url
        Where the run has put them.
    """

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, registry_url: str, lake: str, artifacts: str, redis_url: str) -> None:
        self._plan, self._broker, self._registry = plan, broker, registry
        self._registry_url, self._artifacts, self._redis_url = registry_url, artifacts, redis_url
        self._lake = Lake(lake, plan.application.app)

    def is_accounted(self) -> bool:
        """Whether every raw record has become an entry, a dead letter or a copy."""
        history = self._history()
        own = sum(letter.record["stage"] == "ingestion" for letter in DeadLetterOffice(self._plan, self._broker, self._registry).letters())
        return bool(raw_records(self._plan, self._broker) == history.accepted + own + history.duplicates)

    def is_labelled(self, labelled: Mapping[str, float]) -> bool:
        """Whether every payment with a label has its outcome."""
        return len(set(self._history().outcomes.column("request_id").to_pylist()) & labelled.keys()) == len(labelled)

    def is_archived(self) -> bool:
        """Whether the lake holds as many rows as the topics have records."""
        return all(self._rows(table) >= count for table, count in self._archive_counts(self._history()).items())

    def is_online(self) -> bool:
        """Whether Redis holds what a fresh fold of the journal says."""
        return not self._redis(self._history(), Findings())

    def look(self, good: Mapping[str, Mapping[str, Any]], labelled: Mapping[str, float]) -> Findings:
        """Compare everything."""
        findings, history = Findings(), self._history()
        letters = [
            letter for letter in DeadLetterOffice(self._plan, self._broker, self._registry).letters() if letter.record["reason"] != _LABEL_REFUSED
        ]
        predictions = decoded(self._registry, prediction_schema(), history.predictions)
        answers = Counter(predictions.column("request_id").to_pylist())
        verdict = judge(self._plan, self._registry, history, letters, good, answers, raw_records(self._plan, self._broker))
        findings.problems += verdict.problems
        counted = asdict(verdict)
        findings.counts = {name: counted[name] for name in ("raw", "accepted", "rejected", "duplicates", "good", "vectors_compared")}
        moves = Counter(event["event"] for event in history.deployments)
        findings.counts |= {event: moves[event] for event in _MOVES}
        self._trials(history, predictions, findings)
        self._one_answer(predictions, findings)
        self._outcomes(history, labelled, findings)
        self._archive(history, findings)
        findings.problems += self._redis(history, findings)
        audited = audit_topics(self._plan, self._broker, ConfluentSchemaRegistry(self._registry_url), ArtifactStore(self._artifacts))
        findings.counts |= {"audited": audited.result.predictions_compared, "shadow_scores": audited.result.shadow_scores_compared}
        if not audited.result.clean or audited.quarantined:
            findings.problems.append(
                f"audit: {audited.result.vector_mismatches} vectors and {audited.result.prediction_mismatches} predictions differ,"
                f" {audited.result.switches_back} switches back, {audited.quarantined} set aside; {'; '.join(audited.result.examples)}"
            )
        return findings

    def _history(self) -> RunHistory:
        return read_history(self._plan, self._broker, self._registry)

    def _trials(self, history: RunHistory, predictions: pa.Table, findings: Findings) -> None:
        reader, topic = self._broker.reader(), self._plan.topics.shadow_scores
        try:
            runs = {partition: list(reader.read(TopicPartition(topic, partition), 0, None)) for partition in range(self._plan.application.partitions)}
        finally:
            reader.close()
        scores = decoded(self._registry, shadow_score_schema(), runs)
        keys = [key for records in _runs(history.predictions) for key in records.keys]
        columns = ["journal_partition", "journal_offset", "variant", "model_version"]
        said = ["journal_partition", "journal_offset", "challenger_sequence", "challenger_version", "challenger_score"]
        trials = judge_trials(predictions.select(columns).to_pylist(), keys, scores.select(said).to_pylist(), history.deployments)
        findings.counts |= trials.counts
        findings.problems += trials.problems

    def _one_answer(self, predictions: pa.Table, findings: Findings) -> None:
        asked = zip(*(predictions.column(name).to_pylist() for name in ("journal_partition", "journal_offset", "model")), strict=True)
        doubled = [place for place, count in Counter(asked).items() if count > 1]
        findings.counts["predictions"] = predictions.num_rows
        if doubled:
            findings.problems.append(f"{len(doubled)} requests have more than one prediction of a model: {doubled[:_SHOWN]}")

    def _outcomes(self, history: RunHistory, labelled: Mapping[str, float], findings: Findings) -> None:
        outcomes = history.outcomes.select(["request_id", "label", "status", "revision"]).to_pylist()
        outcome_counts = Counter(row["request_id"] for row in outcomes)
        findings.counts["outcomes"] = len(outcomes)
        missing, doubled = [name for name in labelled if not outcome_counts[name]], [name for name in labelled if outcome_counts[name] > 1]
        if missing or doubled:
            findings.problems.append(
                f"of {len(labelled)} labels {len(missing)} have no outcome ({missing[:_SHOWN]}), {len(doubled)} several ({doubled[:_SHOWN]})"
            )
        wrong = [row for row in outcomes if row["request_id"] in labelled and row["label"] != labelled[row["request_id"]]]
        if wrong:
            findings.problems.append(f"{len(wrong)} outcomes do not carry their label, first: {wrong[0]}")

    def _archive_counts(self, history: RunHistory) -> dict[str, int]:
        counts = {VECTORS: sum(map(len, _runs(history.vectors))), PREDICTIONS: sum(map(len, _runs(history.predictions)))}
        counts[OUTCOMES] = history.outcomes.num_rows
        decoder, streams = JournalDecoder(self._plan, self._registry), Counter[str]()
        for records in _runs(history.journal):
            for name, group in decoder.decode(records).groups.items():
                streams[name] += len(group.rows)
        return counts | {journal_table(name): count for name, count in streams.items()}

    def _rows(self, table: str) -> int:
        return int(self._lake.dataset(table).count_rows()) if self._lake.exists(table) else 0

    def _archive(self, history: RunHistory, findings: Findings) -> None:
        for table, count in self._archive_counts(history).items():
            if not self._lake.exists(table):
                findings.problems += [f"lake: {count} rows expected in {table}, which is not there"] if count else []
                continue
            prefix = "" if table in (PREDICTIONS, OUTCOMES) else "_"
            names = [f"{prefix}journal_partition", f"{prefix}journal_offset"]
            # An outcome carries the coordinates of its label, and several may follow from one.
            names += {OUTCOMES: ["model", "request_id", "revision"], PREDICTIONS: ["model"]}.get(table, [])
            rows = self._lake.dataset(table).to_table(columns=names)
            distinct = rows.group_by(names).aggregate([]).num_rows
            findings.counts[f"lake {table}"] = rows.num_rows
            if rows.num_rows != count or distinct != count:
                findings.problems.append(f"lake: {count} rows expected in {table}, found {rows.num_rows}, {distinct} of them distinct")

    def _redis(self, history: RunHistory, findings: Findings) -> list[str]:
        """Compare each account's row with a fold up to the offset that the row names, behind which nothing of the account may be."""
        problems, partitions = [], self._plan.application.partitions
        store = RedisOnlineStore(self._redis_url, self._plan)
        try:
            for partition, runs in history.journal.items():
                # Reference rows of every account are in every partition; payments are in one.
                accounts = [name for name in GOOD_ACCOUNTS if murmur2_partition(name.encode(), partitions) == partition]
                rows = store.read_features(ENTITY, accounts)
                findings.counts["online"] = findings.counts.get("online", 0) + len(accounts)
                fold = _Fold(self._plan, JournalDecoder(self._plan, self._registry), runs)
                for i in np.argsort(rows.journal_offset, kind="stable").tolist():
                    at, account = int(rows.journal_offset[i]), accounts[i]
                    expected = fold.values(account, at, int(rows.journal_time_ms[i]))
                    newest = fold.newest.get(account, -1)
                    if rows.status[i] != "found" or at <= newest or expected.tobytes() != np.ascontiguousarray(rows.values[i]).tobytes():
                        values = rows.values[i].tolist()
                        problems.append(
                            f"redis: {account} of partition {partition} is {rows.status[i]} below {at}, newest {newest};"
                            f" it has {values}, a fresh fold {expected.tolist()}"
                        )
        except OnlineStoreUnavailableError as error:
            problems.append(f"redis: {error}")
        finally:
            store.close()
        return problems[:_SHOWN]


class _Fold:
    """A fresh fold of a partition's journal that goes on to the offsets it is asked about, which ascend."""

    def __init__(self, plan: Plan, decoder: JournalDecoder, runs: Sequence[Records]) -> None:
        self._core, self._decoder, self._runs, self._at = FeaturesCore(plan), decoder, list(runs), 0
        self.newest: dict[str, int] = {}
        payments = plan.streams["payments"].index
        for records in runs:
            index = decoder.decode(records).stream_index
            for key, offset, stream in zip(records.keys, records.offsets.tolist(), index.tolist(), strict=True):
                if stream == payments and key is not None:
                    self.newest[key.decode(errors="replace")] = offset

    def values(self, account: str, end: int, time_ms: int) -> NDArray[np.float64]:
        """Return the features of an account as of a journal time, with the journal below an offset."""
        for records in self._runs:
            begin, stop = np.searchsorted(records.offsets, (self._at, end)).tolist()
            if begin < stop:
                self._core.process(self._decoder.decode(records[begin:stop]))
        self._at = max(self._at, end)
        values: NDArray[np.float64] = self._core.read(ENTITY, [account], time_ms)[0]
        return values


def _runs(parts: Mapping[int, list[Any]]) -> list[Any]:
    return [records for runs in parts.values() for records in runs]
