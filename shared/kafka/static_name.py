"""The name under which a static member is in its group: who holds it after the group has fenced the member."""

import time
from collections.abc import Callable

from tidemill.shared.log.broker import FencedError

# How many session time-outs a member that nobody hears may hold a name: it is found dead after one.
_SESSIONS_OF_A_GHOST = 1.5
_LOOKS_A_SESSION = 10


class StaticName:
    """Says whether a member that was fenced may join again.

    A coordinator that was elected anew may fence a static member that has no successor: what it has read of the group is older than the member's id.
    So the group is asked who holds the name. Nobody does, or the holder's id is one that this member itself has had: it may join again. Any other id
    is that of another process, or of a ghost: a request of this member's to join that arrived late, or whose answer was lost. Another process renews
    its session, a ghost does not. So the holder is watched for one and a half session time-outs. Once nobody has the name the member may join; a
    holder that is still there, or another one that has come, is another process: FencedError, there is one writer. (The ``client.id`` of a holder
    says nothing: Kafka keeps that of who joined under the name first.)

    Parameters
    ----------
    session_s
        Time-out of a member's session.
    holder
        Returns the member id of who holds a static name in a group, None if nobody does.

    Attributes
    ----------
    ids
        Member ids that this member has had.
    """

    def __init__(self, group: str, name: str, session_s: float, holder: Callable[[str, str], str | None]) -> None:
        self._group, self._name, self._session_s, self._holder = group, name, session_s, holder
        self.ids: set[str] = set()
        self._fenced: FencedError | None = None
        self._rival: str | None = None
        self._until = self._look_at = 0.0

    @property
    def is_contested(self) -> bool:
        """Whether a holder is watched."""
        return self._fenced is not None

    def may_join(self, fenced: FencedError) -> bool:
        """Ask who holds the name; where it may be another process, it is watched from now on."""
        holder = self._holder(self._group, self._name)
        if holder is None or holder in self.ids:
            return True
        now = time.monotonic()
        self._fenced, self._rival, self._until, self._look_at = fenced, holder, now + _SESSIONS_OF_A_GHOST * self._session_s, now
        return False

    def freed(self, timeout_s: float) -> bool:
        """Watch the holder, for `timeout_s` at most: whether nobody has the name any more.

        Raises
        ------
        FencedError
            Another process has it.
        """
        if (left_s := self._look_at - time.monotonic()) > 0:
            time.sleep(min(timeout_s, left_s))
            return False
        holder = self._holder(self._group, self._name)
        now = time.monotonic()
        if holder is None:
            self._fenced = None
            return True
        if self._fenced is not None and (holder != self._rival or now >= self._until):
            self._fenced.add_note(f"the name {self._name} in group {self._group} is held by {holder}, this member has been {sorted(self.ids)}")
            raise self._fenced
        self._look_at = min(now + self._session_s / _LOOKS_A_SESSION, self._until)
        return False

    def __str__(self) -> str:
        """Say who holds it, for people."""
        if self._fenced is None:
            return f"nobody else holds the name {self._name}, so a new member takes it up"
        watched_s = _SESSIONS_OF_A_GHOST * self._session_s
        return f"the name {self._name} is held by {self._rival}; whether that is another process is seen within {watched_s:g} s"
