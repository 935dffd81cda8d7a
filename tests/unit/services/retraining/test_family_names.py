"""A family that nobody has is refused by name, in the application file and in a training."""

import pytest
from pydantic import ValidationError

from tidemill.services.retraining.domain.families.registry import family_of
from tidemill.shared.application.model import Training


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"expected one of the families logistic_regression, .*lightgbm"):
        Training.model_validate({"families": ["lightgmb"]})
    with pytest.raises(ValidationError, match="at least 1 item"):
        Training.model_validate({"families": []})
    with pytest.raises(ValueError, match=r"expected one of the families .*, found forest"):
        family_of("forest")
