"""What must be so of candidates on trial: who answered is who the hash says, and each request was scored once, under one lifecycle."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SHOWN = 3
_WORD, _BITS, _UNIT = 2**64 - 1, 53, 2.0**53
_STAGES = ("shadow", "canary", "ab")


@dataclass(slots=True)
class TrialFindings:
    """How many requests met a candidate, by its stage, and what is not as it must be."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def judge_trials(
    predictions: Sequence[Mapping[str, Any]], keys: Sequence[bytes | None], scores: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> TrialFindings:
    """Hold predictions and shadow scores of one model against its lifecycle log; nothing of the system's own decides.

    Parameters
    ----------
    predictions, keys
        All predictions, with their records' keys.
    scores
        All shadow scores.
    events
        The lifecycle log as it stands in its topic.
    """
    findings, lifecycle = TrialFindings(), _counted(events)
    decided = Counter((event["decision_id"], event["event"], event["version"]) for event in lifecycle.values())
    _note(findings, [key for key, count in decided.items() if count > 1], "events of the lifecycle count twice")
    scored = Counter(map(_place, scores))
    _note(findings, [place for place, count in scored.items() if count > 1], "requests have several shadow scores")
    answers = {_place(row): (row, key or b"") for row, key in zip(predictions, keys, strict=True)}
    canaries = [place for place, (row, _) in answers.items() if row["variant"] == "canary" and place not in scored]
    _note(findings, canaries, "requests were answered by a candidate and have no shadow score")
    _note(findings, _left_out(answers, scores), "requests have no shadow score between others of the same candidate")
    wrong: list[Any] = []
    findings.counts = {"scored in shadow": 0, "answered by a canary": 0, "in an A/B test": 0}
    for score in scores:
        place, event = _place(score), lifecycle.get(score["challenger_sequence"])
        if event is None or event["event"] not in _STAGES or event["version"] != score["challenger_version"] or place not in answers:
            wrong.append((place, "nothing of the lifecycle or of the predictions explains it"))
            continue
        answer, key = answers[place]
        draws = event["event"] != "shadow" and fraction(key, event["artifact_sha256"]) < event["share"]
        is_candidate = draws and score["challenger_score"] is not None
        if (answer["variant"] == "canary") != is_candidate or (is_candidate and answer["model_version"] != event["version"]):
            wrong.append((place, f"expected {'the candidate' if is_candidate else 'the champion'}, found {answer['variant']}"))
        findings.counts["scored in shadow"] += event["event"] == "shadow"
        findings.counts["answered by a canary"] += event["event"] == "canary" and answer["variant"] == "canary"
        findings.counts["in an A/B test"] += event["event"] == "ab"
    _note(findings, wrong, "requests on trial were not answered by whom their hash says")
    return findings


def fraction(key: bytes, artifact_sha256: str) -> float:
    """Return the number in [0, 1) that a key draws of a candidate, written from its description: FNV-1a, fmix64, the salt, fmix64.

    >>> round(fraction(b"N14228", "5f" * 32), 4)
    0.7512
    """
    value = 0xCBF29CE484222325
    for byte in key:
        value = ((value ^ byte) * 0x100000001B3) & _WORD
    return (_mixed(_mixed(value) ^ int(artifact_sha256[:16], 16)) >> (64 - _BITS)) / _UNIT


def _mixed(value: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = ((value ^ (value >> 33)) * factor) & _WORD
    return value ^ (value >> 33)


def _counted(events: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Return the events that count, by sequence: each follows the one that counted before it."""
    counted: dict[int, Mapping[str, Any]] = {}
    for event in events:
        if event["sequence"] == len(counted) and event["parent"] == len(counted) - 1:
            counted[event["sequence"]] = event
    return counted


def _left_out(answers: Mapping[tuple[int, int], Any], scores: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    spans: dict[tuple[int, int], list[int]] = {}
    for score in scores:
        partition, offset = _place(score)
        spans.setdefault((partition, score["challenger_sequence"]), []).append(offset)
    scored = {_place(score) for score in scores}
    ranges = [(partition, min(offsets), max(offsets)) for (partition, _), offsets in spans.items()]
    return [place for place in answers if place not in scored and any(part == place[0] and low < place[1] < high for part, low, high in ranges)]


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["journal_partition"], row["journal_offset"]


def _note(findings: TrialFindings, wrong: Sequence[Any], what: str) -> None:
    if wrong:
        findings.problems.append(f"{len(wrong)} {what}, first: {list(wrong[:_SHOWN])}")
