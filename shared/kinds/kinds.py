"""From what a file says to its kind."""

from functools import lru_cache
from typing import Protocol

from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

KINDS = ("binary", "multiclass", "regression")


class KindSettings(Protocol):
    """Whatever names a kind and its classes: a model of the application file, an artifact's signature."""

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102


def kind_of(settings: KindSettings) -> Kind:
    """Return the kind that settings name.

    Raises
    ------
    ValueError
        There is no such kind, or its classes are missing or too many: bad configuration, which stops the process.
    """
    return _kind(settings.kind, tuple(settings.classes))


@lru_cache(maxsize=256)
def _kind(name: str, classes: tuple[str, ...]) -> Kind:
    if name not in KINDS:
        raise ValueError(f"expected one of the kinds {', '.join(KINDS)}, found {name!r}")
    if name == "multiclass":
        if len(set(classes)) < 2 or len(set(classes)) < len(classes):
            raise ValueError(f"expected two or more different classes (kind: multiclass), found {list(classes)}")
        return Multiclass(classes)
    if classes:
        raise ValueError(f"expected no classes (kind: {name}), found {list(classes)}")
    return Binary() if name == "binary" else Regression()
