"""Random forests of scikit-learn."""

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from tidemill.services.retraining.domain.families.averaged_trees import AveragedTrees


class RandomForest(AveragedTrees):
    """Trees grown on bootstrap samples, each split the best of some columns.

    References
    ----------
    Breiman: Random forests. Machine Learning 45 (2001).
    """

    def __init__(self) -> None:
        super().__init__(RandomForestClassifier, RandomForestRegressor)


FAMILY = RandomForest()
