"""Starts processes from one that has already loaded what they share: a start takes a third of the processor time."""
