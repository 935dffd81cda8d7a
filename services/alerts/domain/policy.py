"""How notifications travel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tidemill.shared.application.alerts import AlertSeverity, Mute

_HISTORY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """How notifications travel.

    Attributes
    ----------
    clock
        What instants are: of the host (``live``), or of the journal (``replay``). An alert is on one of them from its begin to its end.
    channels
        Those of the application, with the least severity that each sends. Log and topic are there always.
    group_wait_ms
        How long a channel of the application waits for further notifications of the same rule; 0: each is sent by itself.
    look_every_ms
        Conditions on an age are looked at when the clock passes a multiple of it.
    history_ms
        Records this much older than the first instant of the clock are history: a new installation reads old topics. Events among them are told to
        nobody, levels once all of it is read, and only those that still stand then. None: everybody is told of everything (replays).
    since_ms
        An instant before which records are history, instead.
    """

    app: str
    owner: str
    channels: Mapping[str, AlertSeverity] = field(default_factory=dict)
    mutes: Sequence[Mute] = ()
    group_wait_ms: int = 10_000
    look_every_ms: int = 1_000
    history_ms: int | None = _HISTORY_MS
    since_ms: int | None = None
    clock: Literal["live", "replay"] = "live"
