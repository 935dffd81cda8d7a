"""Health says how far each feature has shifted, and of thousands those that have shifted farthest: its record fits its topic."""

from tidemill.services.drift.domain.health import shift_figures
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry


def test_figures_of_thousands_of_features_fit_a_record() -> None:
    names = [f"{'long_name_' * 9}{number:04}é" for number in range(4_000)]
    psi = {name: (number * 7 % 4_000) / 1e3 for number, name in enumerate(names)}
    figures = shift_figures(psi, psi, psi)
    codec = message_codec(MemorySchemaRegistry(), "shop-health", "health")
    record = {
        "model": "m", "journal_partition": 0, "journal_offset": 0, "journal_time": 0, "window_start": 0, "window_end": 0, "model_version": "v",
        "metrics": figures, "slices": [],
    }  # fmt: skip
    assert 400_000 < len(codec.encode(record)) < 600_000
    told = {name for name in psi if f"psi__{name}" in figures}
    assert len(told) * 3 == len(figures) and min(psi[name] for name in told) >= max(psi[name] for name in psi if name not in told)


def test_figures_that_fit_are_all_told_in_their_order() -> None:
    figures = shift_figures({"a": 0.1, "b": 0.5}, {"b": 2.0, "a": 1.0}, {"c": 3.0})
    assert list(figures.items()) == [("psi__a", 0.1), ("psi__b", 0.5), ("shift__b", 2.0), ("shift__a", 1.0), ("ranked__c", 3.0)]
