"""The figures of a managed connection: the account with literal times, and every field of a snapshot."""

import asyncio
from dataclasses import fields
from typing import Any

import pytest
from tests.mesh.way import Way, now, play, until

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.errors import ConnectFailed
from meshvisor.shared.metrics import Account, ConnectionMetrics, Percentiles, Ratio, Traffic
from meshvisor.shared.transport.chaos import ChaosOptions

S = ConnectionState
QUICK: dict[str, Any] = {"endpoint_blacklist_duration": 0.2, "connect_timeout": None}


def test_uptime_and_downtime_add_up_from_the_first_connect_on() -> None:
    account = Account()
    assert account.times(50.0) == (0.0, 0.0)
    account.moved(S.CONNECTING, 100.0, carried=False)
    account.moved(S.HANDSHAKE, 101.0, carried=False)
    account.moved(S.ESTABLISHED, 102.0, carried=True)
    assert account.times(105.0) == (3.0, 2.0)
    account.moved(S.SWITCHING, 106.0, carried=True)
    account.moved(S.ESTABLISHED, 107.0, carried=True)
    account.moved(S.DEGRADED, 110.0, carried=False)
    account.moved(S.SWITCHING, 111.0, carried=False)
    assert account.times(120.0) == (8.0, 12.0)


def test_a_ratio_weighs_the_latest_outcome_with_a_fifth_and_falls() -> None:
    ratio = Ratio()
    assert ratio.value == 0.0
    ratio.record(True)
    assert ratio.value == 1.0
    ratio.record(False)
    assert ratio.value == pytest.approx(0.8)
    ratio.record(False)
    assert ratio.value == pytest.approx(0.64)
    ratio.record(True)
    assert ratio.value == pytest.approx(0.712)


def test_percentiles_are_interpolated_over_the_latest_256_samples() -> None:
    percentiles = Percentiles()
    assert percentiles.at(0.5) is None
    for sample in (4.0, 1.0, 3.0, 2.0):
        percentiles.record(sample)
    assert percentiles.at(0.0) == 1.0
    assert percentiles.at(0.5) == 2.5
    assert percentiles.at(0.95) == pytest.approx(3.85)
    assert percentiles.at(1.0) == 4.0
    for _ in range(256):
        percentiles.record(7.0)
    assert percentiles.at(0.0) == 7.0


def test_a_switch_is_measured_from_the_wish_and_a_dropped_wish_is_forgotten() -> None:
    account = Account()
    account.wanted(1.0)
    account.wanted(2.0)
    account.connected("tcp:127.0.0.1:1", 4.0, resumed=None)
    assert account.last_switch_duration == 3.0
    account.wanted(10.0)
    account.content()
    account.wanted(50.0)
    account.connected("tcp:127.0.0.1:1", 51.0, resumed=True)
    assert account.last_switch_duration == 1.0


def test_traffic_adds_up_field_by_field() -> None:
    assert Traffic(1, 2, 3, 4, 5, 6) + Traffic(10, 20, 30, 40, 50, 60) == Traffic(11, 22, 33, 44, 55, 66)


def test_the_fields_are_those_of_the_design() -> None:
    expected = """srtt rttvar phi consecutive_failures reconnect_success_ratio resume_success_ratio uptime downtime
        last_switch_duration last_heartbeat_sent last_heartbeat_ack heartbeat_p50 heartbeat_p95 last_data_activity
        dials_last_minute blacklisted_endpoints dial_rates last_failure_severity last_endpoint bytes_in bytes_out
        messages_in messages_out replayed duplicates_dropped replay_depth detection_time"""
    assert [field.name for field in fields(ConnectionMetrics)] == expected.split()


def test_a_snapshot_before_the_first_connect_is_empty() -> None:
    async def scenario(way: Way) -> None:
        async with way.manager() as manager:
            metrics = manager.metrics()
            assert (metrics.srtt, metrics.phi, metrics.uptime, metrics.downtime) == (None, 0.0, 0.0, 0.0)
            assert metrics.last_endpoint is None
            assert [rate.endpoint for rate in metrics.dial_rates] == ["memory:host"]

    play(scenario)


def test_round_trips_and_heartbeats_are_those_of_the_path() -> None:
    """One way takes 20 ms; the handshake's round trip is the first sample."""

    async def scenario(way: Way) -> None:
        async with way.host(), way.manager(heartbeat_interval=0.25, heartbeat_timeout=2.0) as manager:
            await manager.connect()
            first = manager.metrics()
            assert first.srtt == pytest.approx(0.04, abs=0.002)
            assert first.rttvar == pytest.approx(0.02, abs=0.002)
            assert (first.last_heartbeat_sent, first.last_heartbeat_ack) == (None, None)
            await asyncio.sleep(10)
            later = manager.metrics()
            assert later.srtt == pytest.approx(0.04, abs=0.002)
            assert later.rttvar is not None
            assert later.rttvar < 0.005
            assert later.heartbeat_p50 == pytest.approx(0.04, abs=0.002)
            assert later.heartbeat_p95 == pytest.approx(0.04, abs=0.002)
            assert later.last_heartbeat_sent is not None
            assert later.last_heartbeat_ack is not None
            assert now() - 0.6 < later.last_heartbeat_sent <= later.last_heartbeat_ack + 0.6
            assert later.phi < 1.0

    # 10 ms at each end of each stream, in both directions.
    play(scenario, lambda: Way(ChaosOptions(latency=(0.01, 0.01)), ChaosOptions(latency=(0.01, 0.01))))


def test_traffic_and_replay_are_counted_over_all_connections_and_links() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager(**QUICK) as manager:
            connection, accepted = await manager.connect(), await host.accept()
            for _ in range(10):
                await connection.send(b"x" * 1000)
            assert manager.metrics().replay_depth == 10
            await asyncio.sleep(0.01)
            await manager.reconnect()
            for _ in range(10):
                await accepted.receive()
            await accepted.send(b"back")
            await connection.receive()
            await asyncio.sleep(0.1)
            metrics = manager.metrics()
            assert (metrics.messages_out, metrics.messages_in, metrics.replay_depth) == (10, 1, 0)
            assert metrics.bytes_out > 10_000
            assert metrics.bytes_in > 4
            assert metrics.last_data_activity == pytest.approx(now(), abs=0.11)
            await manager.disconnect()
            assert manager.metrics().messages_out == 10
            await (await manager.connect()).send(b"x")
            assert manager.metrics().messages_out == 11

    play(scenario)


def test_ratios_failures_and_times_tell_of_an_outage() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager(**QUICK) as manager:
            await manager.connect()
            await asyncio.sleep(10)
            await manager.reconnect()
            metrics = manager.metrics()
            assert (metrics.reconnect_success_ratio, metrics.resume_success_ratio) == (1.0, 1.0)
            assert metrics.uptime == pytest.approx(10.0)
            assert metrics.downtime == pytest.approx(0.0)
            way.behaviour["memory:host"] = ConnectionRefusedError(111, "away")
            way.cut()
            await asyncio.sleep(10)
            outage = manager.metrics()
            assert outage.reconnect_success_ratio < 0.8
            assert outage.consecutive_failures > 2
            assert outage.last_failure_severity is FailureSeverity.HARD
            assert outage.dials_last_minute == len(way.dialled)
            assert outage.dial_rates[0].attempts == len(way.dialled)
            assert outage.blacklisted_endpoints == (outage.dial_rates[0].barred_for > 0)
            await until(lambda: manager.metrics().dial_rates[0].barred_for > 0)
            assert outage.uptime == pytest.approx(10.0)
            assert outage.downtime == pytest.approx(10.0)
            way.behaviour.clear()
            await until(lambda: manager.state is S.ESTABLISHED)
            after = manager.metrics()
            assert after.consecutive_failures == 0
            assert after.reconnect_success_ratio > outage.reconnect_success_ratio
            assert after.last_switch_duration == pytest.approx(now() - 10.0, abs=0.01)
            assert after.uptime + after.downtime == pytest.approx(now())
            assert after.last_endpoint == "memory:host"
            assert after.blacklisted_endpoints == 0

    play(scenario)


def test_an_endpoint_that_asks_for_a_pause_is_a_soft_failure_and_a_secret_a_fatal_one() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(secret=b"theirs"), way.manager(secret=b"ours") as manager:
            with pytest.raises(Exception, match="secret"):
                await manager.connect()
            assert manager.metrics().last_failure_severity is FailureSeverity.FATAL
        async with way.host(node_id="client"), way.manager(connect_timeout=1.0) as manager:
            with pytest.raises(ConnectFailed):
                await manager.connect()
            assert manager.metrics().last_failure_severity is FailureSeverity.SOFT

    play(scenario)
