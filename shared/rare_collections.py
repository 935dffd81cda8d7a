"""Import this first, and Python's cycle collector leaves a start alone.

Loading libraries makes hundreds of thousands of objects, which stay: with Python's own thresholds the collector looks at them again and again, an
eighth of a start's processor time. With these it runs seldom, and cycles are still found.
"""

import gc

THRESHOLDS = (50_000, 20, 100)
gc.set_threshold(*THRESHOLDS)
