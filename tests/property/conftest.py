"""Hypothesis for the property tests: an example takes as long as it takes. On a busy machine 200 ms, the default, say nothing of the code."""

from hypothesis import settings

settings.register_profile("tidemill", deadline=None)
settings.load_profile("tidemill")
