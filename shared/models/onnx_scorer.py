"""Serves an artifact, with the same bits in any batching."""

import logging
from typing import Protocol

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind, words
from tidemill.shared.kinds.kinds import kind_of
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.blocks import Blocks, blocks_of_rows, rows_of
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.error_forest import ErrorForest
from tidemill.shared.models.error_model import ErrorModel
from tidemill.shared.models.forest import Forest, ForestStack
from tidemill.shared.models.inputs import Inputs
from tidemill.shared.models.signature import Column

log = logging.getLogger(__name__)
BLOCK_ROWS = 32
_ERROR_TOLERANCE = 1e-4
"""In units of the errors: sums of 32 bits, of leaves that a few large errors can make larger than 10."""


class Scorer(Protocol):
    """A loaded model.

    Attributes
    ----------
    kind
        What it answers.
    columns
        What it reads, in order.
    forest
        The model as a forest of one output, if it is one: many are then scored in one call.
    calibration
        What makes the served scores of a forest's; `score_blocks` has done it.
    errors
        How far from the truth a served score is expected to be; None where the model does not say.
    """

    kind: Kind
    columns: tuple[Column, ...]
    forest: Forest | None
    calibration: Calibration | None
    errors: ErrorForest | None

    def score_blocks(self, blocks: Blocks, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the scores of each padded row, shape (n,), of a multiclass model (n, K); `positions` are the model's own columns of the blocks."""
        ...


class OnnxScorer:
    """A loaded model: forests on our own kernel, any other graph through ONNX Runtime.

    Raises
    ------
    ArtifactError
        The graph, or that of its errors, does not load, does not answer with what its kind says, or does not give what the parity rows have.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.signature = artifact.signature
        self.columns, self.calibration = artifact.signature.columns, artifact.signature.calibration
        self.kind = kind_of(self.signature)
        version, width = self.signature.version, len(self.columns)
        try:
            graph = onnx.load_from_string(artifact.onnx).graph
            self.forest = Forest.from_graph(graph)
            self._engine = _engine(artifact.onnx, self.kind, self.forest, ClassForest.from_graph(graph) if self.kind.classes else None, width)
            own = self.signature.errors
            self.errors = None if own is None else ErrorForest(own, width)
        except Exception as error:  # noqa: BLE001, RUF100 - protobuf and onnxruntime raise their own unrelated classes
            raise ArtifactError(f"model {version}: the ONNX graph does not load: {error}") from error
        self._own = Inputs([self.columns])
        self._check_parity()

    def check_inputs(self, schema: pa.Schema) -> None:
        """Raise ArtifactError unless `schema` has what the model reads."""
        for column in self.columns:
            index = schema.get_field_index(column.name)
            if index < 0 or pa.types.is_string(schema.field(index).type) != (column.type == "string"):
                came = schema.field(index).type if index >= 0 else f"only {', '.join(schema.names)}"
                expected = f"a feature {column.name} of type {column.type}"
                raise ArtifactError(f"model {self.signature.version}: expected {expected}, the vectors have {came}")

    def check_kind(self, kind: Kind) -> None:
        """Raise ArtifactError unless the model answers what the application's model asks."""
        if self.kind != kind:
            expected, came = _words(kind), _words(self.kind)
            raise ArtifactError(
                f"model {self.signature.version}: expected a model of {expected}, as the application says, found {came}; train it anew"
            )

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """Return the scores of each row, shape (n,), of a multiclass model (n, K)."""
        return self.score_blocks(self._own.encode(batch), self._own.positions[0])[: batch.num_rows]

    def score_matrix(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores of each encoded row, shape (n,), of a multiclass model (n, K)."""
        return self.score_blocks(blocks_of_rows(matrix), np.arange(len(self.columns), dtype=np.int32))[: len(matrix)]

    def score_blocks(self, blocks: Blocks, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the scores of each padded row; `positions` are the columns of the blocks that are the model's own."""
        scores = self._engine.score(blocks, positions)
        return scores if self.calibration is None else self.calibration.apply(scores)

    def _check_parity(self) -> None:
        expected = np.array(self.signature.parity_scores)
        if not len(expected):
            raise ArtifactError(f"model {self.signature.version}: expected parity rows, found none")
        try:
            scores = self.score_matrix(self.signature.parity_matrix())
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"model {self.signature.version}: {error}") from error
        if scores.shape != expected.shape:
            raise ArtifactError(f"model {self.signature.version}: expected parity scores of shape {scores.shape}, found {expected.shape}")
        worst = float(np.abs(scores - expected).max())
        if not worst <= self.signature.parity_tolerance:
            raise ArtifactError(f"model {self.signature.version}: parity rows differ by {worst:.3g}, allowed {self.signature.parity_tolerance:.3g}")
        if self.errors is not None and self.signature.errors is not None:
            self._check_errors(self.errors, self.signature.errors, expected)

    def _check_errors(self, forest: ErrorForest, model: ErrorModel, scores: NDArray[np.float64]) -> None:
        """Hold the error model against its parity rows, given the recorded scores: one rounded otherwise could take another branch."""
        positions = np.arange(len(self.columns), dtype=np.int32)
        estimated = forest.estimate(blocks_of_rows(self.signature.parity_matrix()), positions, scores)
        worst = float((np.abs(estimated - np.array(model.parity)) / np.array([model.scale, model.scale**2])).max())
        if not worst <= _ERROR_TOLERANCE:
            words = f"expected errors of the parity rows differ by {worst:.3g} of their unit, allowed {_ERROR_TOLERANCE:.3g}"
            raise ArtifactError(f"model {self.signature.version}: {words}")


def _engine(graph: bytes, kind: Kind, forest: Forest | None, classes: ClassForest | None, width: int) -> "_Trees | _ClassTrees | _Session":
    if forest is not None:
        return _Trees(forest, width)
    if classes is not None and classes.outputs == kind.width:
        return _ClassTrees(classes, width)
    return _Session(graph, kind)


class _Trees:
    """A forest by itself; its arrays are put together at every call, so that of many loaded models each is held once."""

    def __init__(self, forest: Forest, width: int) -> None:
        if (most := int(forest.columns.max(initial=-1))) >= width:
            raise ValueError(f"expected a graph over the {width} columns of its signature, found column {most}")
        self._forest = forest

    def score(self, blocks: Blocks, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = ForestStack([self._forest], [positions]).score(blocks)[0]
        return scores


class _ClassTrees:
    """A forest of several classes; where its columns lie in the blocks is worked out once, as long as that stays the same."""

    def __init__(self, forest: ClassForest, width: int) -> None:
        if (most := int(forest.trees.columns.max(initial=-1))) >= width:
            raise ValueError(f"expected a graph over the {width} columns of its signature, found column {most}")
        self._forest = forest
        self._placed = (np.arange(width, dtype=np.int32), forest.trees.columns)

    def score(self, blocks: Blocks, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        known, columns = self._placed
        if not np.array_equal(known, positions):
            columns = positions[self._forest.trees.columns]
            self._placed = (positions, columns)
        return self._forest.score(blocks, columns)


class _Session:
    """Any graph, in ONNX Runtime on one thread.

    ONNX Runtime chooses other code paths (and sums in another order) for other batch sizes. Every call therefore goes through as many rows.
    A row that the graph cannot answer scores NaN (its request gets the default) and costs no other row its score.
    """

    def __init__(self, graph: bytes, kind: Kind) -> None:
        # A process that serves forests alone does without it; and it starts a thread when it is loaded, which no fork has.
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name
        self._kind = kind
        self._row = (kind.width,) if kind.classes else ()

    def score(self, blocks: Blocks, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        matrix = rows_of(blocks, positions)
        scores = np.empty((len(matrix), *self._row), np.float64)
        for begin in range(0, len(matrix), BLOCK_ROWS):
            rows = matrix[begin : begin + BLOCK_ROWS]
            answer = self._run(rows)
            if answer is None:
                alone = [self._run(rows[i : i + 1]) for i in range(len(rows))]
                answer = np.array([np.full(self._row, np.nan) if one is None else one[0] for one in alone])
            scores[begin : begin + BLOCK_ROWS] = answer
        return scores

    def _run(self, rows: NDArray[np.float32]) -> NDArray[np.float64] | None:
        count = len(rows)
        if count < BLOCK_ROWS:
            rows = np.concatenate([rows, np.zeros((BLOCK_ROWS - count, rows.shape[1]), np.float32)])
        try:
            answer = np.asarray(self._session.run([self._output], {self._input: rows})[0])
        except Exception as error:  # noqa: BLE001, RUF100 - onnxruntime raises its own unrelated classes
            log.warning("the graph failed", extra={"rows": count, "error": str(error)})
            return None
        columns = answer.shape[1] if answer.ndim == 2 else 1
        if answer.ndim > 2 or (columns != self._kind.width if self._row else columns > (2 if self._kind.name == "binary" else 1)):
            raise ValueError(f"expected a graph that answers with {_words(self._kind)}, found scores of shape {answer.shape}")
        own = answer if self._row else answer[:, -1] if answer.ndim == 2 else answer
        return np.asarray(own, np.float64)[:count]


def _words(kind: Kind) -> str:
    """Say what a kind's models answer."""
    return f"kind {kind.name}" + (f" with the {kind.width} classes {words(kind.classes)}" if kind.classes else "")
