"""The release of a broker is derived from the protocol versions it speaks."""

import pytest

from llmctl.client.broker_release import BrokerApi, describe_release


@pytest.mark.parametrize(
    ("api", "said"),
    [
        (BrokerApi({}, 33, 33), "Kafka 4.4 (it knows metadata.version 33, which the cluster uses)"),
        (BrokerApi({}, 25, None), "Kafka 4.0 (it knows metadata.version 25)"),
        (
            BrokerApi({}, 29, 14),
            "Kafka 4.2 (it knows metadata.version 29; the cluster uses 14, that of 3.6)",
        ),
        (BrokerApi({}, 99, None), "Kafka after 4.4 (it knows metadata.version 99)"),
        (
            BrokerApi({60: (0, 0), 48: (0, 1)}),
            "its release is not told; it speaks the protocol of Kafka 2.8 or later",
        ),
        (
            BrokerApi({18: (0, 2)}),
            "its release is not told; it speaks an older protocol than Kafka 2.4",
        ),
    ],
)
def test_a_release_is_told_as_far_as_it_is_known(api: BrokerApi, said: str) -> None:
    assert describe_release(api) == said
