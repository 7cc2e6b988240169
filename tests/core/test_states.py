"""The table of a managed connection's states, walked from end to end."""

import pytest

from meshvisor.shared.core.states import TRANSITIONS, ConnectionCause, ConnectionState, StateChange

S = ConnectionState


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(S)


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {S.DISCONNECTED}
    while new := {following for state in reached for following in TRANSITIONS[state]} - reached:
        reached |= new
    assert reached == set(S)


def test_closed_is_the_only_end_and_every_other_state_leads_there_at_once() -> None:
    assert [state for state in S if not TRANSITIONS[state]] == [S.CLOSED]
    assert all(S.CLOSED in TRANSITIONS[state] for state in S if state is not S.CLOSED)


def test_no_state_changes_into_itself() -> None:
    assert [state for state in S if state in TRANSITIONS[state]] == []


def test_every_state_but_the_last_can_be_left_by_disconnecting() -> None:
    assert all(S.DISCONNECTED in TRANSITIONS[s] for s in S if s not in (S.DISCONNECTED, S.CLOSED))


def test_established_is_reached_over_a_handshake_or_from_a_connection_that_was_there() -> None:
    before = {state for state in S if S.ESTABLISHED in TRANSITIONS[state]}
    assert S.CONNECTING not in before
    assert S.DISCONNECTED not in before
    assert {S.HANDSHAKE, S.SWITCHING, S.DEGRADED} <= before


def test_what_failed_for_good_goes_on_only_when_somebody_asks() -> None:
    assert TRANSITIONS[S.FAILED] == {S.CONNECTING, S.DISCONNECTED, S.CLOSED}


def test_states_and_causes_are_texts() -> None:
    assert f"{S.RECONNECTING}: {ConnectionCause.TRANSPORT_ERROR}" == "reconnecting: transport-error"


def test_a_change_is_a_value_that_does_not_change() -> None:
    change = StateChange(S.CONNECTING, S.HANDSHAKE, ConnectionCause.HANDSHAKE_STARTED, "tcp:127.0.0.1:4500", 10.0)
    assert change.current is S.HANDSHAKE
    with pytest.raises(AttributeError):
        change.at = 11.0  # type: ignore[misc]  # what is to be refused
