"""Schema ids that a registry does not know: remembered, and asked for within a budget, so that junk does not buy the stream's time."""

from collections import OrderedDict

_MOST = 100_000
_EXPIRY_S = 30.0
_BURST, _PER_S = 50.0, 10.0
_NEAR = 100


class UnknownIds:
    """Decides whether asking a registry for an id is worth a request.

    An id just found to be unknown is not asked for again for 30 s; then a schema registered in the meantime is found. Ids up to a little above the
    highest that is known (registries count upwards) are always asked for; of others 50, and 10 more each second: a producer that writes random
    bytes names another one with each record, and a request takes milliseconds.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[int, float] = OrderedDict()
        self._highest = 0
        self._tokens, self._at = _BURST, 0.0

    def learn(self, schema_id: int) -> None:
        """Take note of an id that exists."""
        self._highest = max(self._highest, schema_id)
        self._until.pop(schema_id, None)

    def remember(self, schema_id: int, now_s: float) -> None:
        """Take note of an id that does not exist."""
        self._until.pop(schema_id, None)
        self._until[schema_id] = now_s + _EXPIRY_S
        if len(self._until) > _MOST:
            self._until.popitem(last=False)

    def worth_asking(self, schema_id: int, now_s: float) -> bool:
        """Say whether to ask for an id that is not known; takes from the budget."""
        until = self._until.get(schema_id)
        if until is not None and now_s < until:
            return False
        if schema_id <= self._highest + _NEAR:
            return True
        self._tokens = min(_BURST, self._tokens + (now_s - self._at) * _PER_S) if self._at else _BURST
        self._at = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
