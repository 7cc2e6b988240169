"""Hypothesis draws the same examples in every run, and does not judge by the clock of a busy machine."""

from hypothesis import settings

settings.register_profile("exact", derandomize=True, deadline=None, database=None)
settings.load_profile("exact")
