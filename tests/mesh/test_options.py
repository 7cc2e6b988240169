"""Options: the defaults of the design, and a refusal by name for everything that cannot work."""

from typing import Any

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.mesh.options import ConnectionHostOptions, ConnectionOptions, MeshOptions

MINIMAL: dict[str, Any] = {"node_id": "n", "endpoints": ["tcp:127.0.0.1:1"]}
NONSENSE: list[tuple[str, object]] = [
    ("node_id", ""),
    ("node_id", "x" * 256),
    ("node_id", 7),
    ("endpoints", []),
    ("endpoints", "tcp:127.0.0.1:1"),
    ("endpoints", ["nonsense"]),
    ("secret", "a text"),
    ("heartbeat_interval", 0.0),
    ("heartbeat_timeout", 0.1),
    ("heartbeat_timeout", "3s"),
    ("drain_timeout", -1.0),
    ("max_message", 0),
    ("max_message", 2**32),
    ("max_message", 1.5),
    ("max_queue_messages", 2**20 + 1),
    ("max_queue_bytes", True),
    ("metadata", {"key": 1}),
    ("metadata", {"key": "x" * 1024}),
]
OF_A_MANAGER: list[tuple[str, object]] = [
    ("connect_timeout", -1.0),
    ("connect_timeout", 0.0),
    ("attempt_timeout", float("nan")),
    ("attempt_timeout", float("inf")),
    ("attempt_timeout", None),
    ("max_concurrent_dials", 0),
    ("max_concurrent_dials", 2.0),
    ("endpoint_blacklist_duration", 0.0),
    ("phi_failure_threshold", 1.0),
    ("hard_backoff_cap", -5.0),
]
OF_A_HOST: list[tuple[str, object]] = [("handshake_timeout", 0.0), ("max_half_open", 0), ("session_expiry", -1.0)]


@pytest.mark.parametrize(("field", "value"), NONSENSE + OF_A_MANAGER)
def test_an_impossible_option_of_a_manager_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        ConnectionOptions(**MINIMAL | {field: value})


@pytest.mark.parametrize(("field", "value"), NONSENSE + OF_A_HOST)
def test_an_impossible_option_of_a_host_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        ConnectionHostOptions(**MINIMAL | {field: value})


def test_the_defaults_are_those_of_the_design() -> None:
    options = ConnectionOptions(**MINIMAL)
    assert (options.connect_timeout, options.attempt_timeout, options.drain_timeout) == (10.0, 2.0, 5.0)
    assert (options.happy_eyeballs_delay, options.happy_eyeballs_group_delay) == (0.2, 0.15)
    assert (options.max_concurrent_dials, options.max_dials_per_minute_per_endpoint) == (2, 30)
    assert (options.heartbeat_interval, options.heartbeat_timeout) == (0.75, 3.0)
    assert (options.phi_min_samples, options.phi_suspect_threshold, options.phi_failure_threshold) == (8, 5.0, 8.0)
    assert (options.max_message, options.max_queue_messages, options.max_queue_bytes) == (64 * 2**20, 8192, 4 * 2**20)
    host = ConnectionHostOptions(**MINIMAL)
    assert (host.handshake_timeout, host.max_half_open, host.session_expiry) == (5.0, 64, 60.0)


def test_what_may_be_zero_or_never_may_be() -> None:
    options = ConnectionOptions(
        **MINIMAL, connect_timeout=None, drain_timeout=0, happy_eyeballs_delay=0, max_dials_per_minute_per_endpoint=0
    )
    assert options.connect_timeout is None
    assert ConnectionHostOptions(**MINIMAL, session_expiry=0).session_expiry == 0


def test_endpoints_are_texts_or_endpoints() -> None:
    endpoint = Endpoint.parse("tcp:127.0.0.1:2", priority=3)
    options = ConnectionOptions(node_id="n", endpoints=["tcp:127.0.0.1:1", endpoint])
    assert options.endpoints == (Endpoint.parse("tcp:127.0.0.1:1"), endpoint)


def test_a_secret_is_not_shown() -> None:
    """Options are logged, and stand in tracebacks with local variables."""
    secret = b"do not show this"
    shown = [
        ConnectionOptions(**MINIMAL, secret=secret),
        ConnectionHostOptions(**MINIMAL, secret=secret),
        MeshOptions("n", 1, 2, (), secret),
    ]
    assert [options for options in shown if "do not" in repr(options)] == []
