"""Compile the kernels into Numba's cache before several processes want them at once: ``python -m tests.kernels``.

A cold cache costs a minute of compilation. Worker processes, and the services that the tests start, would each pay for it at the same time.
With a warm cache this takes as long as its imports and a short backtest.
"""

import io
import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pyarrow as pa
from confluent_kafka import Producer
from rich.console import Console

from tests.journals import random_journal
from tests.models import artifact, data
from tests.restarts import folded_with_restarts
from tests.unit.tidemill.backtest.meters import LinearTrainer, application, files
from tidemill.backtest.run import BacktestOptions, backtest
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.services.features.domain import request_keys
from tidemill.services.ingestion.domain.known_ids import KnownIds
from tidemill.shared.application.planning import load_plan
from tidemill.shared.detectors.cusum_mixture import CusumMixture
from tidemill.shared.kafka import bulk_consume
from tidemill.shared.kafka.bulk_produce import BulkProduce, Room
from tidemill.shared.log.partitioning import partitions_of
from tidemill.shared.log.records import Emission
from tidemill.shared.models.additive_parts import TreeParts
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.assignment import hashes
from tidemill.shared.models.blocks import blocks_of_rows
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column
from tidemill.shared.statistics.interval_tracking import IntervalTracker

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Call every kernel that more than one process of the tests calls."""
    features()
    stages()
    explained_forests()
    calibrations()
    CusumMixture().update([0.0, 1.0] * 5_000)
    IntervalTracker(-1.0, 1.0).update([0.0])
    keys()
    known_requests()
    clients()


def features() -> None:
    """Fold a small journal, with checkpoints and restarts."""
    plan = load_plan(ROOT / "examples" / "flights")
    rng = np.random.default_rng(1)
    folded_with_restarts(plan, random_journal(plan, 300, rng), rng, restart=0.3, budget=5_000)


def stages() -> None:
    """Send a few rows through every stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = BacktestOptions(DataChoice(files(folder, "multiclass", rows=400)), folder=folder / "kept")
        trainer = LinearTrainer("multiclass", ArtifactStore(str(folder / "kept" / "artifacts")))
        backtest(application(folder / "app", "multiclass"), options, Console(file=io.StringIO()), trainer)


def explained_forests() -> None:
    """Score with a model of two classes, which is a forest of one output, and with one of three; take the answers apart."""
    width = 5
    scorer = OnnxScorer(artifact("lightgbm", tuple(Column(name=f"c{i}", type="double") for i in range(width)))[0])
    matrix, label = data(300, width, 1)
    parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, label + (matrix[:, 2] > 0)), 2)
    forest = ClassForest.from_graph(onnx.load_from_string(lightgbm_to_onnx(booster, width)).graph)
    if forest is None or scorer.forest is None:
        raise RuntimeError("expected both models to be served by a kernel, found a graph that is no forest")
    forest.score(blocks_of_rows(matrix), forest.trees.columns)
    for parts in (TreeParts.of_forest(scorer.forest, matrix[:50]), TreeParts.of_classes(forest, matrix[:50])):
        parts.parts(matrix[:3], 0)
        parts.sums(matrix[:3])


def calibrations() -> None:
    """Calibrate a probability, and those of two classes."""
    Calibration(link="logit", slope=2.0, knots=(0.1, 0.9), levels=(0.2, 0.8)).apply(np.array([0.5]))
    Calibration(link="softmax", offsets=(0.0, 0.1)).apply(np.array([[0.5, 0.5]]))


def keys() -> None:
    """Place a key on a partition, and draw whether its requests are a canary's."""
    partitions_of([b"key"], 2)
    hashes([b"key"], "0" * 64)


def known_requests() -> None:
    """Remember more ids of events than the first table holds, and the entities of a request."""
    known = KnownIds("events", 1, bytes(16))
    for begin in (0, 600):
        known.remember(pa.array([str(i) for i in range(600)]), np.arange(begin, begin + 600))
    known.give_back(np.full(1, -1))
    table, ids, one = np.zeros((8, 5), np.int64), np.ones((1, 2), np.int64), np.zeros(1, np.int64)
    request_keys._put(table, ids, one, one, np.zeros((1, 1), np.int64))
    request_keys._move(table, 0, 8, np.zeros((16, 5), np.int64), 0)
    request_keys._look_up(table, table, ids, one, one, 1, np.zeros((1, 1), np.int64))


def clients() -> None:
    """Produce to nowhere, and look at no messages: what librdkafka is called by takes addresses and columns of integers."""
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    bulk = BulkProduce.of(producer, Room(messages=1_000, bytes=1 << 20, message_bytes=1 << 20))
    if bulk is None:
        return  # Another librdkafka than the kernels are made for: they are not called.
    for times in (None, np.zeros(1, np.int64)):
        bulk.produce(Emission("topic", 0, [b"key"], [b"value"], times), 0, 1)
    producer.purge()
    none = np.zeros(0, np.int64)
    bulk_consume._look(none, 0, 0, *np.empty((7, 0), np.int64))
    bulk_consume._pack(none, 0, none, 0, np.empty(1, np.int64))
    bulk_consume._give_back(none, 0)


if __name__ == "__main__":
    main()
