"""The record that a dead letter is about, byte for byte."""

from dataclasses import dataclass

from shared.dead_letters.letters import Letter


class OriginalGone(LookupError):
    """A dead letter's original cannot be published again: says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Original:
    """What a publisher had sent."""

    key: bytes | None
    value: bytes


class Originals:
    """Finds the originals of dead letters: in the letter itself."""

    def of(self, letter: Letter) -> Original:
        """Return a letter's original.

        Raises
        ------
        OriginalGone
        """
        value = letter.record["value"]
        if value is None:
            raise OriginalGone("the dead letter has no value: it was a tombstone or a heartbeat")
        if letter.record.get("value_bytes") is not None:
            kept = letter.record.get("quarantined_in") or "its own topic only, as long as that keeps it"
            raise OriginalGone(f"the dead letter has only the beginning of {letter.record['value_bytes']} bytes; the whole is in {kept}")
        return Original(letter.record["key"], value)
