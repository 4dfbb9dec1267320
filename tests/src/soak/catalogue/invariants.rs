//! The invariants, 1 to 35, and where each is checked.

use super::Entry;
use super::Place::{self, Later, Process, Simulation, Test};

const SINKS: Place = Later("delivery to other systems");

const fn invariant(id: u8, name: &'static str, places: &'static [Place]) -> Entry {
    Entry { id, name, places }
}

/// Every invariant, in order.
#[rustfmt::skip]
pub const INVARIANTS: &[Entry] = &[
    invariant(1, "the cursor never passes an alert that is not committed", &[Process, Simulation("I1")]),
    invariant(2, "alert, event and cursor move in one transaction (without deliveries, which are later)", &[Process, Simulation("I2")]),
    invariant(3, "an alert version is stored exactly once", &[Process, Simulation("I3"), Test("tests/stories/proof/commits.rs", "fault_46_two_hundred_lost_commit_acknowledgements_double_nothing")]),
    invariant(4, "every version that is visible is stored, also late, tied and out of order", &[Process, Simulation("I4")]),
    invariant(5, "a stored alert is never changed or lost", &[Process, Simulation("I5")]),
    invariant(6, "what cannot be understood is kept and does not stop its page", &[Process, Simulation("I6"), Test("crates/sink/tests/stories/refused.rs", "a_record_that_the_database_refuses_goes_to_quarantine_and_its_neighbours_commit")]),
    invariant(7, "a write under an old lease is refused", &[Process, Simulation("I7"), Test("tests/stories/replicas.rs", "a_daemon_that_was_frozen_longer_than_its_leases_writes_nothing_stale_when_it_wakes")]),
    invariant(8, "delivered only after a receipt", &[SINKS]),
    invariant(9, "no outgoing item is skipped", &[SINKS]),
    invariant(10, "a sick tenant delays no other", &[Process, Simulation("I10"), Test("crates/microsoft/tests/it/flights.rs", "i10_a_hundred_requests_that_hang_hold_up_nobody_else_at_the_same_host")]),
    invariant(11, "no two redemptions of a tenant at once", &[Process, Simulation("I11"), Test("crates/token-refresher/tests/stories/failovers.rs", "in_five_hundred_failovers_no_two_redemptions_of_a_tenant_overlap_i11")]),
    invariant(12, "redemptions stay within their budget", &[Process, Simulation("I12"), Test("crates/token-refresher/tests/stories/redeeming.rs", "five_thousand_tokens_that_end_in_one_second_are_fresh_within_five_minutes_i12"), Test("crates/token-refresher/tests/stories/load.rs", "five_thousand_paused_tenants_are_kept_alive_together_within_the_rate_i12")]),
    invariant(13, "no secret outside of its place", &[Test("tests/stories/secrets.rs", "no_secret_is_found_outside_of_its_place_whatever_happens")]),
    invariant(14, "everything sensitive is sealed", &[Test("tests/stories/secrets.rs", "no_secret_is_found_outside_of_its_place_whatever_happens")]),
    invariant(15, "a sealed value opens only in its place", &[Test("crates/tenant-registry/src/vault_tests.rs", "i15_no_flipped_bit_of_a_thousand_blobs_passes"), Test("crates/tenant-registry/src/vault_tests.rs", "i15_no_pair_of_rows_can_be_swapped")]),
    invariant(16, "key ring and credential from one place are noticed", &[Test("crates/daemon/src/config/tests.rs", "key_ring_and_app_secret_in_one_folder_warn_or_refuse")]),
    invariant(17, "a callback is accepted once, for the flow that began it", &[Test("tests/stories/consent/refused.rs", "an_answer_is_taken_once_in_the_browser_and_for_the_flow_that_began_it_i17")]),
    invariant(18, "a link never changes tenant in silence", &[Test("tests/stories/consent/flow.rs", "a_live_connection_is_replaced_only_when_asked_and_only_by_one_that_is_proved_i18")]),
    invariant(19, "bearer tokens go to configured origins only", &[Test("crates/microsoft/tests/it/hostile.rs", "no_link_to_a_next_page_takes_a_token_to_a_stranger_i19"), Test("crates/microsoft/tests/it/hostile.rs", "no_redirect_of_an_api_or_of_the_sign_in_service_is_followed_i19")]),
    invariant(20, "no outgoing connection to a forbidden address", &[SINKS]),
    invariant(21, "output parses back to what went in", &[SINKS]),
    invariant(22, "a reader of one tenant sees nothing of another", &[Later("readers of their own")]),
    invariant(23, "application roles own nothing", &[Later("readers of their own")]),
    invariant(24, "whoever is blind knows it within a minute", &[Process, Simulation("I24"), Test("crates/alert-poller/tests/poller/quiet.rs", "i24_whoever_cannot_be_read_any_more_right_after_a_poll_is_told_of_within_the_bound")]),
    invariant(25, "the audit chain cannot be altered unseen", &[Test("crates/tenant-registry/src/audit/verify_tests.rs", "i25_every_change_of_every_field_of_every_entry_is_found"), Test("crates/tenant-registry/tests/stories/auditing.rs", "i25_whatever_is_done_to_the_rows_is_found")]),
    invariant(26, "after offboarding nothing remains", &[Test("tests/stories/offboarding.rs", "i26_after_a_removal_at_most_the_request_in_flight_is_still_made")]),
    invariant(27, "what runs is what was reviewed", &[Later("releases")]),
    invariant(28, "a missing or wrong key never leads to a write", &[Test("crates/tenant-registry/src/keyring_tests.rs", "every_cut_of_the_file_is_refused")]),
    invariant(29, "an outage of the database loses nothing and costs no memory", &[Process, Simulation("I29"), Test("tests/stories/proof/database_away.rs", "fault_45_a_minute_without_the_database_costs_no_memory_and_everybody_catches_up_fairly")]),
    invariant(30, "a rotated token is durable before its access token is used", &[Process, Simulation("I30"), Test("tests/stories/proof/rotation.rs", "fault_56_fifty_kills_around_a_rotation_lose_only_what_no_client_could_keep_i30"), Test("crates/token-refresher/tests/stories/outages.rs", "an_outage_of_six_hours_does_not_cost_the_rotated_token_i30")]),
    invariant(31, "jumps of the clock do no harm", &[Simulation("I31"), Test("crates/token-refresher/tests/stories/clocks.rs", "a_machine_that_slept_uses_no_token_that_ended_meanwhile_i31")]),
    invariant(32, "a graceful stop loses nothing and hands over at once", &[Process, Test("crates/tenant-registry/tests/stories/handover.rs", "i32_a_planned_stop_hands_over_within_two_seconds_by_a_word_and_not_by_the_next_look")]),
    invariant(33, "a restart is safe at any instruction that has a name", &[Process, Simulation("I33"), Test("tests/stories/proof/points.rs", "fault_60_whatever_happens_at_a_named_step_everything_is_stored_once")]),
    invariant(34, "per alert, order follows versions", &[SINKS]),
    invariant(35, "nothing grows for ever", &[Process]),
];
