"""Names of the lake's tables."""

VECTORS = "vectors"
PREDICTIONS = "predictions"
SHADOW_SCORES = "shadow_scores"
EXPLANATIONS = "explanations"
"""Where a model asks for them; nobody waits for it."""
OUTCOMES = "outcomes"
VIEW_SWITCHES = "view_switches"
DEPLOYMENTS, DECISIONS, INCIDENTS, TRIALS = "deployments", "decisions", "incidents", "trials"
"""Small topics, whole records as text (`tidemill.shared.lake.history`)."""
QUARANTINE = "quarantine"
"""Originals of dead letters that outgrow their topic."""


def journal_table(stream: str) -> str:
    """Return the table of one stream's journal entries."""
    return f"journal_{stream}"
