"""Verdicts and values of schema resolution held to Java's Avro: ``python -m campaigns.java_avro --pairs 20000 --seed 1``.

Java's Avro and the compiler of the program that asks it are fetched once, by the benchmark's lock file; no Java development kit is needed.
"""

import argparse
import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.environments import java_program
from campaigns.java_avro.pairs import Pair, pairs
from tests.property.avro_types import encoded
from tests.property.test_avro_resolution import READERS, TYPES
from tidemill.deploy.embedded.folders import cache_folder
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header

_PROGRAM = Path(__file__).with_name("ResolveAvro.java")
_LIMIT_S = 1_800
_SHOWN = 10
# Where ours is meant to differ, by what its error says.
STRICTER = {"invalid_utf8": "bytes read as string that are no UTF-8: Java puts U+FFFD in their place, we refuse them"}


@dataclass(slots=True)
class Tally:
    """What was compared and what differs."""

    pairs: int = 0
    records: int = 0
    read: int = 0
    known: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)


def matrix() -> Iterator[Pair]:
    """Return the pairs of the property test: every type for every other."""
    for theirs in TYPES:
        for ours in READERS:
            yield Pair(_record(TYPES[theirs][0]), _record(TYPES[ours][0]), [{"x": value, "end": "z"} for value in TYPES[theirs][1]])


def compare(drawn: list[Pair], command: list[str]) -> Tally:
    """Ask both about every record of every pair."""
    tally = Tally()
    bodies = [[encoded(json.dumps(pair.writer), row) for row in pair.rows] for pair in drawn]
    lines = [
        " ".join([_word(json.dumps(pair.writer).encode()), _word(json.dumps(pair.reader).encode()), *map(_word, some)])
        for pair, some in zip(drawn, bodies, strict=True)
    ]
    asked = subprocess.run(command, input="\n".join(lines) + "\n", stdout=subprocess.PIPE, text=True, timeout=_LIMIT_S, check=True)
    for pair, some, answer in zip(drawn, bodies, asked.stdout.splitlines(), strict=True):
        verdict, *answers = answer.split(" ")
        if verdict == "unreadable":
            continue
        tally.pairs += 1
        _compare_pair(pair, some, answers, verdict == "COMPATIBLE", tally)
    return tally


def _compare_pair(pair: Pair, bodies: list[bytes], answers: list[str], compatible: bool, tally: Tally) -> None:
    registry, reader = MemorySchemaRegistry(), json.dumps(pair.reader)
    place = header(registry.register("s", json.dumps(pair.writer)))
    ours = ColumnDecoder(registry, reader, exact_length=True).decode([place + body for body in bodies])
    mine = dict(zip(ours.rows.tolist(), _rows(ours.batch), strict=True))
    errors = {error.index: error for error in ours.errors}
    own = MemorySchemaRegistry()
    same = ColumnDecoder(own, reader, exact_length=True)
    own_place = header(own.register("s", reader))
    for i, answer in enumerate(answers):
        tally.records += 1
        content = base64.b64decode(answer[1:])
        refused = answer[0] == "!"
        if i in errors and not refused and errors[i].reason in STRICTER:
            tally.known[errors[i].reason] += 1
        elif refused != (i in errors):
            said = content.decode(errors="replace") if refused else errors[i].detail
            _differs(tally, pair, i, f"Java {'refuses' if refused else 'reads'} it: {said}")
        elif not refused:
            tally.read += 1
            theirs = _rows(same.decode([own_place + content]).batch)
            if theirs != [mine[i]]:
                _differs(tally, pair, i, f"Java reads {theirs}, ours is {mine[i]}")
        elif compatible:
            _differs(tally, pair, i, f"Java calls the schemas compatible, and neither reads it: {errors[i].detail}")


def _differs(tally: Tally, pair: Pair, row: int, what: str) -> None:
    tally.differing.append(f"{what}\n  writer {json.dumps(pair.writer)}\n  reader {json.dumps(pair.reader)}\n  record {pair.rows[row]}")


def _rows(batch: pa.RecordBatch) -> list[str]:
    """Return each row as text: of numbers, so that a NaN and a negative zero are what they are."""
    return [repr(row) for row in batch.to_pylist()]


def _record(declared: Any) -> dict[str, Any]:  # Avro JSON is free-form
    return {"type": "record", "name": "R", "fields": [{"name": "x", "type": declared}, {"name": "end", "type": "string"}]}


def _word(content: bytes) -> str:
    return base64.b64encode(content).decode()


def main() -> int:
    """Compare and print; 1 when something differs that is not meant to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000, help="generated pairs, beside the matrix")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = cache_folder() / "java-avro"
    folder.mkdir(parents=True, exist_ok=True)
    command = java_program(folder, "avro", [_PROGRAM], lambda text: print(text, file=sys.stderr))
    tally = compare(list(chain(matrix(), islice(pairs(given.seed), given.pairs))), command)
    print(f"seed {given.seed}: {tally.pairs:,} pairs of schemas, {tally.records:,} records, {tally.read:,} read by both with the same values")
    for reason, count in tally.known.items():
        print(f"{count:,} differ as they are meant to: {STRICTER[reason]}")
    print(f"{len(tally.differing):,} differ")
    for text in tally.differing[:_SHOWN]:
        print(text)
    return 1 if tally.differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
