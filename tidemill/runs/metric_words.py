"""How metrics are named and written where people read them."""

_WORDS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "brier": "Brier score",
    "f1": "F1",
    "r2": "R²",
}
_SHARES = ("auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "kappa", "coverage")


def metric_words(name: str) -> str:
    """Return what a metric is called.

    >>> metric_words("auc"), metric_words("balanced_accuracy")
    ('AUC', 'balanced accuracy')
    """
    return _WORDS.get(name, name.replace("_", " "))


def metric_text(name: str, value: float | None, *, signed: bool = False) -> str:
    """Write the value of a metric: three decimals of a share, four digits of anything else, a dash where it is undefined.

    >>> metric_text("auc", 0.71262), metric_text("interval_width", 1234.567), metric_text("auc", -0.01, signed=True), metric_text("r2", None)
    ('0.713', '1235', '-0.010', '-')
    """
    if value is None or value != value:
        return "-"
    return format(value, ("+" if signed else "") + (".3f" if name in _SHARES else ".4g"))
