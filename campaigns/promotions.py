"""Whether a promotion does harm, with faults in the stream and without any: ``make promotions``.

A year's third of a generated shop (`tests/planted_faults.py`) goes through a backtest with the real trainer, and a fault is planted into it on day
64, when the first models serve. A promotion did harm where the new champion surely loses more than the gate's margin against the old one on the next
5,000 requests: by their labels as they came, which a fault may have flipped, and by the probabilities that the truth was drawn from. One made before
the fault is judged up to it: what comes after is no knowledge of any policy, and is counted by itself.
Verdicts are kept in a file, a line for each stream: a campaign goes on where it was ended. Delete lines to run their streams again.
"""

import argparse
import io
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console

from tests.planted_faults import DAY, EXPECTED, FAULT, HOUR, PER_DAY, Fault, Table, table
from tests.trainer_here import TrainerHere
from tidemill.backtest.run import BacktestOptions, BacktestResult, backtest
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.services.retraining.processes.job_files import JobResult
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer

Float64 = NDArray[np.float64]
APPLICATION = Path(__file__).parent / "applications" / "orders"
DAYS = 140
KEPT = Path(__file__).parent / "kept" / "promotions.jsonl"
_BEGIN_MS = 1_700_000_000_000 // DAY * DAY
_NEXT = 5_000
_MARGIN = 0.005
_OUTAGE = 10_000
_COUNTRIES = {"de": 0.3, "fr": 0.0, "it": -0.3, "es": -0.6, "new": 0.6}


def outage(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """No labels of 10,000 rows."""
    rows.labelled[np.flatnonzero(after)[:_OUTAGE]] = False


FAULTS: dict[str, Fault] = {name: EXPECTED[name][0] for name in ("nothing", "covariate", "null", "units", "flips", "abrupt", "gradual", "two")}
FAULTS["outage"] = outage
_ROOTS = {"model:m": "model:sent_back"}


class Unrecorded(TrainerHere):
    """Trainer that has nothing to tell a registry: to write one costs as much as the trainings."""

    def poll(self) -> JobResult | None:
        """Return the result without its record."""
        result = super().poll()
        return result and replace(result, record={})


@dataclass(frozen=True)
class Verdict:
    """What a backtest showed.

    Attributes
    ----------
    promotions, judged
        Promotions, and those that replaced a champion and were followed by three days of labels.
    by_labels, by_truth
        Promotions that did harm, by the labels that came and by the true probabilities.
    worst
        Largest true cost of a promotion in nats a row.
    left_out, waited
        Trainings that left rows out because labels looked turned round, and those that were refused.
    found
        Streams of which the right finding was told, or that have none to tell.
    false, most_false
        False incidents, of all streams and of the one with the most of them.
    roots
        What they are about, with their number.
    unforeseen
        Promotions before the fault that would have done harm, by labels or by truth, only with the requests after it.
    """

    rows: int
    trainings: int
    promotions: int
    judged: int
    by_labels: int
    by_truth: int
    worst: float
    streams: int = 0
    found: int = 0
    false: int = 0
    most_false: int = 0
    roots: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    waited: int = 0
    unforeseen: int = 0

    def __add__(self, other: "Verdict") -> "Verdict":
        counts = {name: getattr(self, name) + getattr(other, name) for name in _ADDED}
        most = max(self.most_false, other.most_false)
        return replace(self, worst=max(self.worst, other.worst), most_false=most, roots=self.roots + other.roots, **counts)


_ADDED = ("rows", "trainings", "promotions", "judged", "by_labels", "by_truth", "streams", "found", "false", "left_out", "waited", "unforeseen")
NOTHING = Verdict(0, 0, 0, 0, 0, 0, -np.inf)


def truth_of(rows: Table) -> Float64:
    """Return the probability that an order is sent back, shape (n,), by the relation that its day follows."""
    amount = np.tanh(np.nan_to_num(rows.columns["amount"] / 600 - 1))
    weight = np.tanh(np.nan_to_num(rows.columns["weight"] - 50) / 10)
    country = np.array([_COUNTRIES[name] for name in rows.country])
    usual = 1 / (1 + np.exp(-(-1.0 + 0.8 * amount + 0.4 * weight + country)))
    other = 1 / (1 + np.exp(-(0.2 - 0.8 * amount + 0.4 * weight + country)))
    return np.asarray(usual + rows.other * (other - usual), np.float64)


def written(folder: Path, fault: Fault, seed: int, days: int) -> tuple[list[str], dict[str, float]]:
    """Write the streams' files; returns what `--data` takes, and by order the true probability of its label."""
    rows, generator = table(seed, days), np.random.default_rng(seed + 1_000)
    # What the label follows is what was there before a column broke on its way.
    broken = fault in (EXPECTED["null"][0], EXPECTED["units"][0], EXPECTED["two"][0])
    truth = truth_of(rows) if broken else None
    fault(rows, rows.day >= FAULT, generator)
    truth = truth_of(rows) if truth is None else truth
    label = (generator.random(len(truth)) < truth) ^ rows.flipped
    at = _BEGIN_MS + rows.time_ms
    ids = np.array([f"o{i}" for i in range(len(truth))])
    kept, told = np.flatnonzero(rows.kept), np.flatnonzero(rows.kept & rows.labelled)
    stamp = pa.timestamp("ms", "UTC")
    orders = {"order_id": ids[kept], "at": pa.array(at[kept], pa.int64()).cast(stamp)}
    orders |= {name: pa.array(values[kept], from_pandas=True) for name, values in rows.columns.items()}
    pq.write_table(pa.table({**orders, "country": pa.array(rows.country[kept])}), folder / "orders.parquet")
    back = at + (2 * HOUR * generator.lognormal(0, 0.5, len(truth))).astype(np.int64)
    told = told[np.argsort(back[told], kind="stable")]
    returns = {"order_id": ids[told], "at": pa.array(back[told], pa.int64()).cast(stamp), "sent_back": pa.array(label[told], pa.int32())}
    pq.write_table(pa.table(returns), folder / "returns.parquet")
    return [f"{name}={folder / name}.parquet" for name in ("orders", "returns")], dict(zip(ids.tolist(), truth.tolist(), strict=True))


def told(name: str, incidents: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the roots that a fault should have been told of and was not, and the kinds and roots of false incidents."""
    expected = {_ROOTS.get(root, root): kind for root, kind in EXPECTED[name][1].items()}
    begin = _BEGIN_MS + FAULT * DAY
    right = {one["incident_id"]: one["root"] for one in incidents if expected.get(one["root"]) in one["kinds"] and one["opened"] >= begin}
    # That the stream of orders ends with the data is true.
    ended = _BEGIN_MS + DAYS * DAY
    false = [f"{'+'.join(one['kinds'])} {one['root']}" for one in incidents if one["incident_id"] not in right and one["opened"] < ended]
    return sorted(set(expected) - set(right.values())), false


def judge(name: str, seed: int, days: int = DAYS) -> Verdict:
    """Run one backtest with a fault, and judge what was told and promoted."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data, truth = written(folder, FAULTS[name], seed, days)
        trainer = Unrecorded()
        result = backtest(APPLICATION, BacktestOptions(DataChoice(data), folder=folder / "kept"), Console(file=io.StringIO()), trainer)
        costs = _true_costs(name, result, folder / "kept", truth)
    quality = result.figures.quality["sent_back"]
    effects = [effect for effect in (quality.promotions if quality else ()) if effect.difference.low == effect.difference.low]
    known = {cost.version: cost.until_fault for cost in costs if cost.until_fault is not None}
    by_labels = [effect for effect in effects if effect.is_harmful and effect.version not in known]
    by_truth = [cost for cost in costs if (cost.whole if cost.until_fault is None else cost.until_fault) > _MARGIN]
    suspected = {effect.version for effect in effects if effect.is_harmful} | {cost.version for cost in costs if cost.whole > _MARGIN}
    missed, false = told(name, result.seen.newest_incidents())
    return Verdict(
        result.predictions,
        len(trainer.results),
        result.figures.values["promotions"],
        len(effects),
        len(by_labels) + sum(cost.until_fault is not None for cost in by_truth),
        len(by_truth),
        max((cost.whole if cost.until_fault is None else cost.until_fault for cost in costs), default=-np.inf),
        1,
        int(not missed),
        len(false),
        len(false),
        Counter(false),
        sum(one.figures.get("left_out_rows", 0.0) > 0 for one in trainer.results),
        sum(one.skipped for one in trainer.results),
        sum(known[version] <= _MARGIN for version in suspected if version in known),
    )


@dataclass(frozen=True, slots=True)
class _Cost:
    """True cost of a promotion in nats a row: on all of its next 5,000 requests and, of one made before the fault, on those before it."""

    version: str
    whole: float
    until_fault: float | None


def until_fault(costs: Float64, is_before: NDArray[np.bool_], made_ms: int) -> float | None:
    """Return what a promotion made before the fault cost on those of its requests that came before it, 0 where none did.

    None of one made after the fault, and of one whose requests all came before. What a promotion is made by is known when it is decided; it serves
    from the next slice of time on, which may begin with the fault.

    Parameters
    ----------
    costs, is_before : shape (n,)
        In nats of each of its next requests, and whether that came before the fault.
    made_ms
        Journal time of the decision.
    """
    if made_ms >= _BEGIN_MS + FAULT * DAY or is_before.all():
        return None
    return float(costs[is_before].mean()) if is_before.any() else 0.0


def _true_costs(name: str, result: BacktestResult, folder: Path, truth: dict[str, float]) -> list[_Cost]:
    """Return the expected cost of each promotion that is followed by enough requests: no noise of labels is in it."""
    plan = load_plan(APPLICATION)
    lake = Lake(str(folder / "lake"), plan.application.app)
    columns = list(plan.models["sent_back"].features)
    vectors = lake.dataset(VECTORS).to_table(columns=[*columns, "_journal_offset"]).sort_by("_journal_offset")
    outcomes = lake.dataset(OUTCOMES).to_table(
        columns=["request_id", "request_journal_offset", "deployment_sequence"], filter=ds.field("revision") == 0
    )
    places = dict(zip(outcomes["request_journal_offset"].to_pylist(), range(len(outcomes)), strict=True))
    rows = np.array([places.get(offset, -1) for offset in vectors["_journal_offset"].to_pylist()])
    outcomes = outcomes.take(pa.array(rows[rows >= 0]))
    asked = vectors.filter(pa.array(rows >= 0)).select(columns).combine_chunks().to_batches()[0]
    names = outcomes["request_id"].to_pylist()
    right, day = np.array([truth[one] for one in names]), np.array([int(one[1:]) // PER_DAY for one in names])
    sequences = outcomes["deployment_sequence"].to_numpy()
    store = ArtifactStore(str(folder / "artifacts"))
    served = [event for event in result.seen.deployments if event["event"] in ("promoted", "rolled_back")]

    def losses(event: dict[str, object]) -> Float64:
        scores = OnnxScorer(Artifact.from_bytes(store.get(str(event["artifact_sha256"])))).score(asked)
        scores = np.clip(scores, 1e-15, 1 - 1e-15)
        return np.asarray(-(right * np.log(scores) + (1 - right) * np.log1p(-scores)), np.float64)

    costs = []
    for before, after in pairwise(served):
        mask = sequences >= after["sequence"]
        mask &= np.cumsum(mask) <= _NEXT
        if after["event"] != "promoted" or mask.sum() < _NEXT // 5:
            continue
        difference, ordered = losses(after) - losses(before), day < FAULT
        until = None if name == "nothing" else until_fault(difference[mask], ordered[mask], int(after["journal_time"]))
        costs.append(_Cost(str(after["version"]), float(difference[mask].mean()), until))
    return costs


def read_kept(file: Path) -> dict[tuple[str, int], Verdict]:
    """Return the verdicts of a file by fault and seed; none where there is no file."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines() if file.exists() else ())
    return {(one["fault"], one["seed"]): Verdict(**{**one["verdict"], "roots": Counter(one["verdict"]["roots"])}) for one in lines}


def keep(file: Path, name: str, seed: int, verdict: Verdict) -> None:
    """Add a verdict to a file, with the commit that it was found on."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(
            json.dumps({"fault": name, "seed": seed, "commit": commit.stdout.strip(), "verdict": {**asdict(verdict), "roots": dict(verdict.roots)}})
            + "\n"
        )


def main() -> None:
    """Plant every fault with a seed, then with the next, and print what the promotions cost: a campaign that is ended has done as much of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of each fault")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--stationary-rows", type=int, default=1_000_000, help="requests of the streams without a fault, in all")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only these")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where the verdicts of streams are kept: %(default)s")
    chosen = parser.parse_args()
    kept = read_kept(chosen.kept)
    wholes, seed = dict.fromkeys(chosen.fault or FAULTS, NOTHING), chosen.first_seed
    while open_faults := [name for name in wholes if not _is_done(name, seed - chosen.first_seed, wholes[name], chosen)]:
        for name in open_faults:
            if (name, seed) not in kept:
                kept[name, seed] = judge(name, seed)
                keep(chosen.kept, name, seed, kept[name, seed])
            wholes[name] += kept[name, seed]
            print(f"{name}, seeds {chosen.first_seed} to {seed}: {words(wholes[name])}", flush=True)
        seed += 1
    harm = sum(whole.by_truth for whole in wholes.values())
    raise SystemExit(0 if not harm else f"expected no harmful promotion, found {harm}")


def _is_done(name: str, seeds: int, whole: Verdict, chosen: argparse.Namespace) -> bool:
    return bool(whole.rows >= chosen.stationary_rows) if name == "nothing" else bool(seeds >= chosen.seeds)


def words(whole: Verdict) -> str:
    """Return a verdict in words."""
    return (
        f"{whole.rows:,} requests, {whole.trainings} trainings, {whole.promotions} promotions, {whole.judged} judged; harmful by the labels that came"
        f" {whole.by_labels}, by the truth {whole.by_truth}, and {whole.unforeseen} by what came after them; the worst cost"
        f" {whole.worst:+.4f} nats a row; {whole.left_out} trainings left rows out,"
        f" {whole.waited} waited; found in {whole.found} of {whole.streams},"
        f" false incidents {whole.false}, in one stream at most {whole.most_false}: {dict(whole.roots)}"
    )


if __name__ == "__main__":
    main()
