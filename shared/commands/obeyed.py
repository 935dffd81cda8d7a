"""Which commands were obeyed: one that comes again, also as a copy of a signed one, is none."""

import heapq
from collections.abc import Mapping
from typing import Any

REMEMBERED_MS = 30 * 86_400_000
_NEVER = -(2**62)
FOLLOWED = "this command was followed before"


class ObeyedCommands:
    """Remembers ids for 30 days, those that were issued last; of those before, when the newest was issued.

    They are forgotten in the order in which they were issued: a copy of one that is forgotten is known by its time, and one command of a host whose
    clock ran ahead holds back none that others issue.

    Parameters
    ----------
    most
        How many ids are remembered.

    Attributes
    ----------
    forgotten
        When the newest command was issued whose id is not remembered any more; one issued no later may have been obeyed.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._commands: dict[str, tuple[int, int]] = {}
        self._by_issue: list[tuple[int, str]] = []
        self.forgotten = _NEVER

    def __contains__(self, command_id: object) -> bool:
        """Whether it was obeyed, as far as its id is remembered."""
        return command_id in self._commands

    def obstacle(self, command_id: str, issued_ms: int) -> str | None:
        """Return why a command is none that can be obeyed: it is known by its id, or by its time; None: it is new."""
        if command_id in self._commands:
            return FOLLOWED
        if issued_ms <= self.forgotten:
            return "the command is no newer than those forgotten, and may have been followed before"
        return None

    def add(self, command_id: str, issued_ms: int, now_ms: int) -> None:
        """Take note of a command that is obeyed, whose id is not remembered."""
        self._commands[command_id] = now_ms, issued_ms
        heapq.heappush(self._by_issue, (issued_ms, command_id))
        while len(self._commands) > self._most or self._commands[self._by_issue[0][1]][0] <= now_ms - REMEMBERED_MS:
            issued, oldest = heapq.heappop(self._by_issue)
            del self._commands[oldest]
            self.forgotten = max(self.forgotten, issued)

    def snapshot(self) -> dict[str, Any]:
        """State as JSON can hold it."""
        return {"commands": {name: list(when) for name, when in self._commands.items()}, "forgotten": self.forgotten}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot; one without commands says that none was obeyed."""
        # State written before commands were signed has the time alone.
        given = state.get("commands", {})
        self._commands = {name: (at, 0) if isinstance(at, int) else (at[0], at[1]) for name, at in given.items()}
        self._by_issue = sorted((issued, name) for name, (_, issued) in self._commands.items())
        self.forgotten = state.get("forgotten", _NEVER)
