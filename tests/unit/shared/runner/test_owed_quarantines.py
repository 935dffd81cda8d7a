"""A quarantine is owed until it is committed, by this process or by one whose commit was reported as failed."""

from tests.property.runner_tasks import records_of
from tests.unit.shared.runner.runners import INPUT
from tidemill.shared.log.records import Records
from tidemill.shared.runner.owed_quarantines import OwedQuarantines


def record(offset: int) -> Records:
    return records_of(INPUT, 1, [(offset, b"k", b"v")])


def test_what_is_owed_is_one_entry_for_each_record_until_it_is_committed() -> None:
    owed = OwedQuarantines()
    assert owed.owe(0, record(7), "first") == (INPUT, 1, 7)
    owed.owe(0, record(9), "second")
    owed.owe(0, record(7), "again")
    owed.owe(3, record(5), "another task's")
    assert [detail for _, detail in owed.of(0)] == ["again", "second"] and owed.addresses(0) == [(INPUT, 1, 7), (INPUT, 1, 9)]
    owed.settle(0, {(INPUT, 1, 9), (INPUT, 1, 5)})
    assert owed.addresses(0) == [(INPUT, 1, 7)], "the log has the other one"
    owed.committed(0)
    assert owed.of(0) == [] and owed.addresses(3) == [(INPUT, 1, 5)]
