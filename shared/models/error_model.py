"""A second model, of the first one's errors: part of the signature of a model that answers with numbers."""

import math

from pydantic import BaseModel, ConfigDict, model_validator


class ErrorModel(BaseModel):
    """How far from the truth an answer is expected to be, by its inputs and the answer itself: a forest with two outputs.

    Attributes
    ----------
    graph
        ONNX graph in base64: the model's columns and, last, the served score in; absolute and squared error, in units of `scale`, out.
    scale : more than 0
        Unit of errors, in that of the label.
    parity : shape (parity rows, 2)
        What the training library expects of the signature's parity rows and scores, in the label's unit and its square: checked at every load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph: str
    scale: float
    parity: tuple[tuple[float, float], ...]

    @model_validator(mode="after")
    def _usable(self) -> "ErrorModel":
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"expected a finite unit of errors above 0, found {self.scale}")
        return self
