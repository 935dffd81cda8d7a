"""Which worker runs which tests: one by one in the order of `tests/conftest.py`, a module with a set-up of its own as a whole."""

from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# Of so many workers one begins at the other end.
_OF = 3


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]  # xdist has no types
    """Gives the next test to the worker that has time; a module that shares a set-up between its tests stays on one worker.

    The longest tests wait for servers, the shortest compute: every third worker begins at the end of the list, so that the processors have something
    to do from the beginning and are not wanted by all at the end.

    (`--dist loadgroup` would do the same with a mark per module; pytest-xdist 3.8 writes the group into an attribute that pytest 9.2 does not read.)
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)
        self._root = config.rootpath

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Give a worker the longest that is left; the last third of the workers the shortest."""
        if node in self.nodes[len(self.nodes) - len(self.nodes) // _OF :]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        """Return what is given to a worker at once: the module, or the test alone."""
        file = nodeid.split("::")[0]
        return file if shares_a_set_up(self._root / file) else nodeid


@cache
def shares_a_set_up(file: Path) -> bool:
    """Say whether a module has a fixture that is made once for all of its tests."""
    return 'scope="module"' in file.read_text(encoding="utf-8")
