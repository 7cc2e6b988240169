"""Fuzzing: every decoder of bytes that come from outside a process, under coverage and by properties.

A target (``target.py``) hands bytes to one decoder and raises if a rule of it is broken. They are all in
``catalogue.py``, and run in two ways:

    python -m tests.fuzz --list
    python -m tests.fuzz TARGET... [--minutes M | --runs N] [--jobs J] [--corpus DIR]     needs the extra ``fuzz``
    python -m tests.fuzz TARGET --replay FILE...                                          what was found, once more

The first way is guided by coverage (atheris, which is libFuzzer), begins with valid inputs made by code, and changes
them within their structure. Minutes are of CPU time. What it finds goes into DIR/TARGET-findings; once it is mended, it
stays in ``test_found.py`` under the sentence that it broke. Without atheris, ``test_targets.py`` runs the same targets
on examples that hypothesis draws, always the same ones; that is what CI does. ``test_list.py`` has what is left.

The list of reference/reliability.md, section 5.4, and what covers it (``test_list.py`` checks that it is there):

    1   lengths
            tests/mesh/test_hostile.py
                test_a_huge_length_allocates_nothing
            tests/core/test_frames.py
                test_a_length_over_the_limit_is_a_fault_before_anything_is_allocated
            tests/control/test_lifeline.py
                test_a_length_over_the_limit_is_refused_before_anything_of_it_has_come
            tests/fuzz/test_list.py
                test_no_length_makes_room_before_it_is_checked
    2   N bytes less one
            tests/mesh/test_hostile.py
                test_an_opening_that_breaks_off_is_counted_as_that
            tests/fuzz/test_list.py
                test_a_handshake_that_ends_anywhere_lets_nobody_in
    3   slowloris
            tests/mesh/test_hostile.py
                test_a_byte_a_second_runs_into_the_deadline_of_the_whole_handshake
                test_a_flood_of_half_open_connections_is_bounded_and_passes
    4   wrong magic
            tests/mesh/test_hostile.py
                test_an_opening_that_is_none_is_closed_and_counted
    5   versions
            tests/mesh/test_hostile.py
                test_an_opening_that_is_none_is_closed_and_counted
            tests/core/test_handshake.py
                test_whatever_is_altered_in_hello_the_handshake_fails
            tests/fuzz/test_list.py
                test_no_version_but_ours_is_agreed_on
    6   unknown, trailing
            tests/core/test_frames.py
                test_the_good_frames_before_a_fault_are_returned_and_what_follows_is_ignored
            tests/fuzz/test_list.py
                test_what_follows_a_message_within_its_length_is_refused
    7   out of turn, impossible
            tests/mesh/test_hostile.py
                test_a_peer_that_breaks_a_rule_loses_its_connection_and_not_its_session
            tests/mesh/test_host.py
                test_the_host_never_takes_a_connection_from_its_own_node_id
                test_a_later_incarnation_ends_the_earlier_one_and_fences_it
            tests/core/test_handshake.py
                test_a_malformed_hello_is_refused_with_the_reason
            tests/fuzz/test_list.py
                test_a_frame_of_the_handshake_out_of_turn_lets_nobody_in
    8   replay, reflection
            tests/mesh/test_hostile.py
                test_a_recorded_handshake_replayed_is_refused_and_the_session_undisturbed
                test_our_own_proof_reflected_at_us_proves_nothing
            tests/core/test_handshake.py
                test_nobody_passes_by_reflecting_what_the_dialling_side_said
    9   nesting, odd values
            tests/fuzz/test_list.py
                test_what_is_nested_or_odd_is_refused_in_words
    10  floods
            tests/mesh/test_hostile.py
                test_a_flood_of_pings_is_answered_once_a_turn
            tests/fuzz/test_list.py
                test_a_flood_of_acknowledgements_is_not_answered
                test_tiny_frames_cost_in_proportion_to_their_number
    11  any split
            tests/core/test_frames.py
                test_pieces_of_any_size_give_the_same_frames
            tests/control/test_lifeline.py
                test_messages_are_the_same_however_the_stream_is_split
            tests/fuzz/test_list.py
                test_a_handshake_cut_anywhere_is_the_same_one
    12  mutation of structure
            tests/fuzz/test_targets.py
                test_whatever_arrives_the_rules_hold
                test_a_decoder_that_is_broken_is_found_out
"""
