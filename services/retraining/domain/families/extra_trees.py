"""Extremely randomised trees of scikit-learn."""

from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from tidemill.services.retraining.domain.families.averaged_trees import AveragedTrees


class ExtraTrees(AveragedTrees):
    """Trees on all rows, each split the best of some columns at thresholds drawn at random.

    References
    ----------
    Geurts, Ernst, Wehenkel: Extremely randomized trees. Machine Learning 63 (2006).
    """

    def __init__(self) -> None:
        super().__init__(ExtraTreesClassifier, ExtraTreesRegressor)


FAMILY = ExtraTrees()
