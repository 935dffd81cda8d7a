"""W4 per account for the Python peers, in tiles as feature platforms keep them (the twin of VectorTiles.java).

5 min = 30 tiles of 10 s, 1 h = 30 of 2 min, 24 h = 24 of 1 h. Windows end at the stream time of the partition (the newest event time so
far, this event included); a payment stands in the tile of its own event time. Count and sum are running, the maximum is a scan; distinct
merchants are the newest hour of each merchant and how many merchants have which newest hour.
"""

from array import array
from collections.abc import Callable

from records import Record

_HOURS = 24
_HOUR_MS = 3_600_000
_WINDOWS: list[tuple[str, int, int, int]] = []
_at = 1
for _name, _tile_ms, _tiles in (("5m", 10_000, 30), ("1h", 120_000, 30), ("24h", 3_600_000, 24)):
    _WINDOWS.append((_name, _tile_ms, _tiles, _at))
    _at += 3 + 3 * _tiles
_DISTINCT = _at
_SIZE = _at + 2 + _HOURS


def empty_state() -> array:
    """Return the state of an account without payments."""
    return array("d", bytes(8 * _SIZE))


def _move_hours(a: array, head: int) -> None:
    ring, before = _DISTINCT + 2, int(a[_DISTINCT])
    if before == 0 or head - before >= _HOURS:
        for i in range(ring, ring + _HOURS):
            a[i] = 0.0
        a[_DISTINCT + 1] = 0.0
    else:
        for gone in range(before + 1, head + 1):
            i = ring + gone % _HOURS
            a[_DISTINCT + 1] -= a[i]
            a[i] = 0.0
    a[_DISTINCT] = float(head)


def update(a: array, payment: Record, stream_time: int, get_hour: Callable[[str], int | None], set_hour: Callable[[str, int], None]) -> Record:
    """Take one payment into the account's state and return its vector.

    Parameters
    ----------
    get_hour, set_hour
        Newest hour in which the account paid a merchant.
    """
    time, amount = payment["event_time"], payment["amount"]
    out = {"payment_id": payment["payment_id"], "account_id": payment["account_id"], "event_time": time}
    for name, tile_ms, k, o in _WINDOWS:
        tile, head, before = time // tile_ms, stream_time // tile_ms, int(a[o])
        counts = o + 3
        sums = counts + k
        maxima = sums + k
        if head > before:
            if before == 0 or head - before >= k:
                for i in range(o + 1, maxima + k):
                    a[i] = 0.0
            else:
                for gone in range(before + 1, head + 1):
                    i = gone % k
                    if a[counts + i]:
                        a[o + 1] -= a[counts + i]
                        a[o + 2] -= a[sums + i]
                        a[counts + i] = a[sums + i] = a[maxima + i] = 0.0
            a[o] = float(head)
        if head - tile < k:
            i = tile % k
            a[counts + i] += 1.0
            a[sums + i] += amount
            a[o + 1] += 1.0
            a[o + 2] += amount
            if amount > a[maxima + i]:
                a[maxima + i] = amount
        count, total = a[o + 1], a[o + 2]
        out["count_" + name] = int(count)
        out["sum_" + name] = total
        out["mean_" + name] = total / count if count else 0.0
        out["max_" + name] = max(a[maxima : maxima + k])
    hour, head = time // _HOUR_MS, stream_time // _HOUR_MS
    if head > a[_DISTINCT]:
        _move_hours(a, head)
    ring, merchant = _DISTINCT + 2, payment["merchant_id"]
    newest = get_hour(merchant)
    if newest is None or newest < hour:
        if newest is not None and head - newest < _HOURS:
            a[ring + newest % _HOURS] -= 1.0
            a[_DISTINCT + 1] -= 1.0
        if head - hour < _HOURS:
            a[ring + hour % _HOURS] += 1.0
            a[_DISTINCT + 1] += 1.0
        set_hour(merchant, hour)
    out["distinct_merchants_24h"] = int(a[_DISTINCT + 1])
    out["seconds_since_previous"] = (stream_time - a[0]) / 1000.0 if a[0] else -1.0
    if time > a[0]:
        a[0] = float(time)
    return out
