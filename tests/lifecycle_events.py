"""Lifecycle events of hand-made artifacts in an `ApplicationRun`: roll-backs and challengers, which its `deploy` does not make."""

from tidemill.shared.avro.messages import message_codec
from tidemill.shared.models.artifacts import Artifact
from tidemill.testing import ApplicationRun


def publish_event(run: ApplicationRun, model: str, artifact: Artifact, event: str, share: float = 0.0) -> None:
    """Publish an event of a model's lifecycle about an artifact, from the next event on."""
    topics, signature = run.plan.topics, artifact.signature
    run._deployed[model] = sequence = run._deployed[model] + 1
    record = {
        "sequence": sequence, "parent": sequence - 1, "decision_id": f"test-{sequence}", "model": model, "event": event,
        "version": signature.version, "journal_partition": 0, "journal_offset": 0, "journal_time": run.clock.now_ms(),
        "artifact_sha256": run._artifacts.put(artifact.to_bytes()), "artifact_uri": "", "share": share, "threshold": signature.threshold,
        "figures": {}, "details": {}, "reason": "a test",
    }  # fmt: skip
    codec = message_codec(run.registry, topics.deployments, "deployment")
    run._sink.publish(topics.deployments, model.encode(), codec.encode(record), run.clock.now_ms(), 0)
    run._settle()
