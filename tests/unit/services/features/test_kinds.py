"""The kinds of aggregates have one list; the kernels know each by its name."""

from tidemill.services.features.domain.kernels.kinds import AggregateKind
from tidemill.shared.application.plan import ACCUMULATED, EVER, KINDS


def test_the_kernels_know_every_kind_that_is_not_made_of_others() -> None:
    assert {AggregateKind.of(kind) for kind in KINDS if kind != "ratio"} == set(AggregateKind)


def test_every_kind_is_over_windows_or_over_everything_or_made_of_others() -> None:
    assert (*ACCUMULATED, *EVER, "ratio") == KINDS
