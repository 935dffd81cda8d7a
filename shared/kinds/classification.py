"""What models have in common that answer with a class: their metrics, and what counts as a probability."""

RISING = ("auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "kappa")
FALLING = ("log_loss", "brier", "calibration_error")
SCORE_TOLERANCE = 1e-3
"""How far a probability may lie beside [0, 1], and those of a row sum up beside 1: graphs compute in 32 bits, other libraries normalise loosely."""
