"""The metrics of models that answer with a class."""

RISING = ("auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "kappa")
FALLING = ("log_loss", "brier", "calibration_error")
