"""Who a registry is, is looked at by its certificate, unless all of its addresses are plain."""

import ssl

import pytest

from tidemill.shared.avro.registry import ConfluentSchemaRegistry


@pytest.mark.parametrize(("url", "mode"), [
    ("http://registry:8081", ssl.CERT_NONE), ("https://registry:8081", ssl.CERT_REQUIRED), ("http://one:8081,https://two:8081", ssl.CERT_REQUIRED),
])  # fmt: skip
def test_certificates_are_held_against_authorities_unless_there_is_none(url: str, mode: ssl.VerifyMode) -> None:
    assert ConfluentSchemaRegistry(url)._client._rest_client.verify.verify_mode == mode
