"""Serves an artifact through ONNX Runtime, with the same bits in any batching."""

import numpy as np
import onnxruntime as ort
import pyarrow as pa
from numpy.typing import NDArray

from shared.models.artifacts import Artifact, ArtifactError

BLOCK_ROWS = 32


class OnnxScorer:
    """A loaded model.

    ONNX Runtime chooses other code paths (and sums in another order) for other batch sizes. Every call therefore goes through blocks of
    the same size, padded with zeros, on one thread: a row's score depends on the row alone.

    Raises
    ------
    ArtifactError
        The graph does not load, or does not give the parity rows' scores.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.signature = artifact.signature
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(artifact.onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001, RUF100 - onnxruntime raises its own unrelated classes
            raise ArtifactError(f"model {self.signature.version}: the ONNX graph does not load: {error}") from error
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name
        self._check_parity()

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """Return one score per row, shape (n,)."""
        return self.score_matrix(self.signature.encode(batch))

    def score_matrix(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return one score per encoded row, shape (n,)."""
        n = len(matrix)
        scores = np.empty(n, np.float64)
        block = np.zeros((BLOCK_ROWS, matrix.shape[1]), np.float32)
        for begin in range(0, n, BLOCK_ROWS):
            rows = matrix[begin : begin + BLOCK_ROWS]
            block[: len(rows)] = rows
            block[len(rows) :] = 0.0
            answer = np.asarray(self._session.run([self._output], {self._input: block})[0])
            scores[begin : begin + len(rows)] = (answer[:, -1] if answer.ndim == 2 else answer)[: len(rows)]
        return scores

    def _check_parity(self) -> None:
        expected = np.array(self.signature.parity_scores)
        if not len(expected):
            raise ArtifactError(f"model {self.signature.version}: expected parity rows, found none")
        worst = float(np.abs(self.score_matrix(self.signature.parity_matrix()) - expected).max())
        if not worst <= self.signature.parity_tolerance:
            raise ArtifactError(f"model {self.signature.version}: parity rows differ by {worst:.3g}, allowed {self.signature.parity_tolerance:.3g}")
