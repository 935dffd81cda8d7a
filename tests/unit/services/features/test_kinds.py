"""The kinds of aggregates have one list; the codes that the kernels know them by follow it."""

from tidemill.services.features.domain.kernels import layout
from tidemill.shared.application.plan import ACCUMULATED, EVER, KINDS

_OTHER_NAMES = {"sum": "TOTAL"}


def test_every_kind_has_the_code_of_its_own_name() -> None:
    assert {kind: getattr(layout, _OTHER_NAMES.get(kind, kind.upper())) for kind in KINDS} == layout.CODES


def test_every_kind_is_over_windows_or_over_everything_or_made_of_others() -> None:
    assert (*ACCUMULATED, *EVER, "ratio") == KINDS
