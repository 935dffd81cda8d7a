"""Where compiled kernels are kept: a folder of their own sources, and that of no other function."""

from pathlib import Path
from typing import Any

from tidemill.services.features.domain.kernels.kernel import fold_view
from tidemill.services.features.domain.reference_state import _latest
from tidemill.services.outcomes.domain import identity_index
from tidemill.shared.avro.read_kernel import walk


def folder(function: Any) -> Path:
    return Path(function._cache.cache_path)


def test_only_kernels_are_kept_by_the_sources_of_the_kernels() -> None:
    """What a process imported first is no part of the place: otherwise one process does not find what another has compiled."""
    kernels = {folder(function).parent for function in (fold_view, _latest)}
    [kept] = kernels
    assert kept.name.startswith("features-")
    for function in (walk, identity_index._find):
        assert folder(function).parent != kept and "features-" not in str(folder(function))
