"""What is searched for boosted trees, whichever library grows them."""

from typing import Any


def suggest_boosting(trial: Any, least_rows_per_leaf: int) -> dict[str, Any]:  # optuna is untyped
    """Draw the number of rounds and what keeps each tree simple."""
    return {
        "trees": trial.suggest_int("trees", 60, 120, step=20),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.2, log=True),
        "leaves": trial.suggest_int("leaves", 12, 48, log=True),
        "rows_per_leaf": trial.suggest_int("rows_per_leaf", least_rows_per_leaf, 300, log=True),
        "feature_share": trial.suggest_float("feature_share", 0.4, 0.9),
        "ridge": trial.suggest_float("ridge", 1e-2, 30.0, log=True),
    }
