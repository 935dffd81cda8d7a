"""Which classes a training may have where they are learned: those with labels enough, as many as a record holds."""

import pyarrow as pa

from tidemill.services.retraining.learned_classes import choices_of_classes
from tidemill.shared.kinds.spelling import MOST_CLASS_BYTES, class_bytes
from tidemill.shared.lake.training_set import TrainingSet


def labelled(counts: dict[str, int]) -> TrainingSet:
    names = [name for name, count in counts.items() for _ in range(count)]
    times = pa.array(range(len(names)), pa.int64())
    return TrainingSet(pa.table({"_request_time": times, "_label_time": times, "_label": names}), {})


def test_of_more_classes_than_a_record_holds_those_with_the_most_labels_are_learned() -> None:
    """A thousand names of two hundred letters outgrew every outcome."""
    counts = {f"{number:0200}": 3 + number % 7 for number in range(1_000)}
    classes = choices_of_classes(labelled(counts), ("known",), 3)[0]
    assert MOST_CLASS_BYTES - 300 < class_bytes(classes) <= MOST_CLASS_BYTES and classes[0] == "known" and list(classes[1:]) == sorted(classes[1:])
    assert min(counts[name] for name in classes[1:]) >= max(counts[name] for name in counts if name not in classes)


def test_few_classes_are_all_learned_by_name() -> None:
    assert choices_of_classes(labelled({"b": 4, "a": 3, "c": 2}), (), 3)[0] == ("a", "b")
