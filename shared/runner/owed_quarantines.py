"""Records that are condemned and whose quarantine is not committed yet."""

from collections.abc import Collection

from tidemill.shared.log.records import Records
from tidemill.shared.runner.quarantine import Address


class OwedQuarantines:
    """The quarantines that each task of a stage still has to commit, by the task's partition."""

    def __init__(self) -> None:
        self._owed: dict[int, dict[Address, tuple[Records, str]]] = {}

    def owe(self, partition: int, culprit: Records, detail: str) -> Address:
        """Have a task commit the quarantine of a record, a batch of one; return where the record lies."""
        address = (culprit.topic, culprit.partition, int(culprit.offsets[0]))
        self._owed.setdefault(partition, {})[address] = (culprit, detail)
        return address

    def of(self, partition: int) -> list[tuple[Records, str]]:
        """Records whose quarantine is still to be committed, and why."""
        return list(self._owed.get(partition, {}).values())

    def addresses(self, partition: int) -> list[Address]:
        """Where these records lie."""
        return list(self._owed.get(partition, {}))

    def settle(self, partition: int, quarantined: Collection[Address]) -> None:
        """Owe no more what the log holds: a commit that was reported as failed may have taken place."""
        owed = self._owed.get(partition, {})
        for address in [address for address in owed if address in quarantined]:
            del owed[address]

    def committed(self, partition: int) -> None:
        """Owe a task's quarantines no more."""
        self._owed.pop(partition, None)
