"""The model families that an application may name."""

from typing import Annotated

from pydantic import AfterValidator

FAMILIES = ("logistic_regression", "lightgbm")
"""Each is a module of this name in `tidemill.services.retraining.domain.families`."""


def _known(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"expected one of the families {', '.join(FAMILIES)}")
    return name


FamilyName = Annotated[str, AfterValidator(_known)]
