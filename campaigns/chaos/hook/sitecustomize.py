"""Loaded by Python at the start of every process that has this folder on its path."""

from campaigns.chaos.points import install

install()
