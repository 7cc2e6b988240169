"""The figures of a connection manager, put together from those who keep them."""

from __future__ import annotations

from ..core.choice import EndpointChoice
from ..metrics import Account, ConnectionMetrics, DialRate
from .connection import ConnectionHandle
from .dialer import Dialer


def snapshot(
    account: Account, choice: EndpointChoice, dialer: Dialer, link: ConnectionHandle | None, now: float
) -> ConnectionMetrics:
    """Return the figures at ``now``; ``link`` is the link there is."""
    uptime, downtime = account.times(now)
    rates = tuple(
        DialRate(endpoint.key, choice.tracker(endpoint).attempts(now), dialer.penalties.remaining(endpoint.key, now))
        for endpoint in choice.endpoints
    )
    traffic = account.traffic if link is None else account.traffic + link.traffic()
    path = None if link is None else link.path(now)
    return ConnectionMetrics(
        srtt=path.srtt if path else None,
        rttvar=path.rttvar if path else None,
        phi=path.phi if path else 0.0,
        consecutive_failures=account.consecutive_failures,
        reconnect_success_ratio=account.reconnects.value,
        resume_success_ratio=account.resumes.value,
        uptime=uptime,
        downtime=downtime,
        last_switch_duration=account.last_switch_duration,
        last_heartbeat_sent=path.sent_at if path else None,
        last_heartbeat_ack=path.acked_at if path else None,
        heartbeat_p50=account.round_trips.at(0.50),
        heartbeat_p95=account.round_trips.at(0.95),
        last_data_activity=None if link is None else link.last_activity,
        dials_last_minute=sum(rate.attempts for rate in rates),
        blacklisted_endpoints=choice.barred(now),
        dial_rates=rates,
        last_failure_severity=dialer.last_severity,
        last_endpoint=account.last_endpoint,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        messages_in=traffic.messages_in,
        messages_out=traffic.messages_out,
        replayed=traffic.replayed,
        duplicates_dropped=traffic.duplicates,
        replay_depth=0 if link is None else link.replay_depth,
        detection_time=account.detection_time,
    )
