//! The faults, 1 to 72, and where each is exercised.

use super::Entry;
use super::Place::{self, Process, Simulation, Skipped, Test};

const ANSWERS: &str = "crates/microsoft/tests/it/answers.rs";
const NETWORK: &str = "crates/microsoft/tests/it/network.rs";
const EXTRACT: &str = "crates/microsoft/src/extract/tests.rs";

const fn fault(id: u8, name: &'static str, places: &'static [Place]) -> Entry {
    Entry { id, name, places }
}

/// Every fault, in order.
#[rustfmt::skip]
pub const FAULTS: &[Entry] = &[
    // HTTP and Graph.
    fault(1, "connect refused", &[Process, Test("crates/microsoft/tests/it/alerts.rs", "fault_01_10_11_a_server_that_hangs_trickles_breaks_off_or_is_away_is_tried_again")]),
    fault(2, "connect timeout", &[Process, Simulation("AnswerHangs"), Test(NETWORK, "fault_02_a_connection_that_nobody_accepts_is_given_up")]),
    fault(3, "DNS failure", &[Test(NETWORK, "fault_03_a_name_that_is_not_found_says_what_to_look_at")]),
    fault(4, "DNS answer changes", &[Test(NETWORK, "fault_04_a_name_that_moves_is_followed_and_one_that_leads_to_a_stranger_gets_no_token")]),
    fault(5, "TLS certificate expired", &[Test(NETWORK, "fault_05_an_expired_certificate_is_refused_and_named")]),
    fault(6, "TLS certificate for another name", &[Test(NETWORK, "fault_06_a_certificate_for_another_name_is_refused")]),
    fault(7, "TLS authority unknown", &[Test(NETWORK, "fault_07_an_authority_that_nobody_knows_is_refused")]),
    fault(8, "reset in the middle of the headers", &[Process, Test(NETWORK, "fault_08_a_connection_reset_within_the_head_is_no_answer")]),
    fault(9, "reset in the middle of the body", &[Process, Simulation("AnswerTruncated"), Test(NETWORK, "fault_09_a_page_cut_short_by_a_reset_is_no_page")]),
    fault(10, "one byte a second", &[Process, Simulation("AnswerHangs")]),
    fault(11, "body shorter than Content-Length", &[Process, Simulation("AnswerTruncated")]),
    fault(12, "gzip bomb", &[Process, Test(ANSWERS, "fault_12_a_bomb_without_end_is_cut_off_where_it_exceeds_the_limit")]),
    fault(13, "200 with HTML", &[Process, Simulation("AnswerTruncated"), Test("crates/microsoft/tests/it/alerts.rs", "fault_13_an_answer_that_is_no_page_is_refused_whole")]),
    fault(14, "429 with seconds", &[Process, Simulation("Throttled"), Test(ANSWERS, "fault_14_15_a_429_is_obeyed_in_every_form_and_never_for_longer_than_an_hour")]),
    fault(15, "429 with a date, a negative, an absurd or no time", &[Process, Simulation("Throttled"), Test("crates/microsoft/src/throttle.rs", "fault_15_every_form_of_retry_after_becomes_a_bounded_wait")]),
    fault(16, "bursts of 503", &[Process, Simulation("Unavailable"), Test(ANSWERS, "fault_16_a_burst_of_503_passes_and_leaves_nothing_behind")]),
    fault(17, "500 on page N only", &[Process, Simulation("PageFails"), Test(ANSWERS, "fault_17_a_page_that_fails_alone_can_be_asked_for_again")]),
    fault(18, "skip token expired", &[Process, Simulation("LinkExpired"), Test(ANSWERS, "fault_18_a_link_that_has_expired_is_no_fault_of_ours")]),
    fault(19, "link to another host", &[Process, Simulation("LinkForeign"), Test("crates/microsoft/tests/it/links.rs", "fault_19_a_link_to_another_server_is_refused_and_never_called")]),
    fault(20, "link in a circle, the same page twice", &[Process, Simulation("LinkLoops"), Test(ANSWERS, "fault_20_a_link_that_was_seen_before_is_known_again_in_any_spelling")]),
    // What the API says.
    fault(21, "equal stamps over a page border", &[Process, Simulation("Ties")]),
    fault(22, "late arrival, 15 minutes", &[Process, Simulation("LateWithinOverlap")]),
    fault(23, "late arrival, 24 hours and 7 days", &[Process, Simulation("LateBeyondOverlap")]),
    fault(24, "a row moves between pages", &[Process, Simulation("Update")]),
    fault(25, "a version goes back", &[Process, Simulation("OlderAfterNewer"), Test("crates/sink/tests/stories/commit.rs", "an_older_body_never_overwrites_a_newer_one_but_is_a_version")]),
    fault(26, "ids that differ in case", &[Process, Simulation("IdsDifferInCase"), Test(EXTRACT, "fault_26_ids_that_differ_in_case_are_two_ids")]),
    fault(27, "missing members, nulls, new words", &[Process, Simulation("NullStamp"), Test(EXTRACT, "fault_27_a_type_that_was_never_documented_leaves_a_column_empty")]),
    fault(28, "duplicate keys", &[Process, Test(EXTRACT, "fault_28_the_last_of_two_members_counts")]),
    fault(29, "NUL, lone surrogate, invalid UTF-8", &[Process, Simulation("Poison"), Test("crates/microsoft/tests/it/alerts.rs", "fault_29_poison_is_told_apart_and_its_neighbours_stay")]),
    fault(30, "10,000 levels deep", &[Process, Simulation("Poison"), Test(EXTRACT, "fault_30_depth_is_counted_in_brackets_outside_of_texts")]),
    fault(31, "one alert of 20 MB", &[Process, Simulation("RecordTooLarge"), Test(EXTRACT, "fault_31_an_alert_of_20_mb_is_an_alert_and_a_larger_one_is_poison")]),
    fault(32, "an id of 10 KB", &[Process, Test(EXTRACT, "fault_32_an_id_too_long_for_an_index_is_poison")]),
    // Sign-in.
    fault(33, "refresh token revoked", &[Process, Simulation("Revoked"), Test("crates/microsoft/tests/it/sign_in.rs", "fault_33_a_revoked_token_is_a_dead_token")]),
    fault(34, "interaction or consent required", &[Process, Simulation("InteractionRequired"), Test(ANSWERS, "fault_34_a_user_who_must_act_is_asked_to")]),
    fault(35, "our app's secret has expired", &[Process, Simulation("AppRefused"), Test(ANSWERS, "fault_35_a_secret_that_has_expired_is_our_own_trouble_and_no_tenants")]),
    fault(36, "no new refresh token in the answer", &[Process, Simulation("RefreshAbsent"), Test(ANSWERS, "fault_36_an_answer_without_a_successor_leaves_the_old_token_in_use")]),
    fault(37, "answer lost after rotation", &[Process, Simulation("RefreshAnswerLost"), Test(ANSWERS, "fault_37_an_answer_that_is_lost_after_the_rotation_is_no_verdict_on_the_old_token")]),
    fault(38, "a token for another tenant", &[Process, Test("crates/microsoft/tests/it/sign_in.rs", "fault_38_an_answer_for_another_tenant_gives_out_nothing")]),
    fault(39, "scope reduced", &[Process, Test(ANSWERS, "fault_39_a_scope_that_was_cut_down_shows_as_a_missing_permission")]),
    fault(40, "odd `expires_in`", &[Process, Simulation("OddExpiresIn"), Test(ANSWERS, "fault_40_a_life_in_any_form_is_a_life_between_a_minute_and_a_day_and_a_bit")]),
    fault(41, "signing keys rotated or missing", &[Test("crates/microsoft/tests/it/onboarding.rs", "fault_41_changed_keys_are_fetched_once_and_not_for_every_stranger")]),
    fault(42, "sign-in temporarily unavailable", &[Process, Simulation("SignInUnavailable"), Test(ANSWERS, "fault_42_a_service_that_is_unavailable_for_a_while_marks_nobody")]),
    fault(43, "user disabled in mid-flight: 401 with a claims challenge", &[Process, Simulation("Unauthorized"), Test("crates/microsoft/src/alerts/refusal/tests.rs", "fault_43_a_claims_challenge_calls_for_a_person")]),
    // The database.
    fault(44, "database down at the start", &[Process, Simulation("StoreAway"), Test("tests/stories/proof/database_away.rs", "fault_44_a_daemon_that_starts_without_its_database_says_so_in_one_sentence")]),
    fault(45, "database stops immediately", &[Process, Simulation("StoreAway"), Test("tests/stories/proof/commits.rs", "fault_45_five_immediate_stops_of_postgres_lose_nothing_that_was_committed")]),
    fault(46, "answer to COMMIT lost", &[Process, Simulation("CommitAnswerLost"), Test("tests/stories/proof/commits.rs", "fault_46_two_hundred_lost_commit_acknowledgements_double_nothing")]),
    fault(47, "failover to a standby that lacks the last commits", &[Process, Test("tests/stories/proof/timeline.rs", "fault_47_what_a_failover_has_undone_is_read_again")]),
    fault(48, "database read-only", &[Process, Simulation("StoreReadOnly"), Test("tests/stories/proof/database_refuses.rs", "faults_48_to_55_a_database_that_refuses_is_waited_for_and_named")]),
    fault(49, "disk of the database full", &[Process, Test("tests/stories/proof/database_refuses.rs", "faults_48_to_55_a_database_that_refuses_is_waited_for_and_named")]),
    fault(50, "too many connections", &[Process, Test("tests/stories/proof/database_refuses.rs", "faults_48_to_55_a_database_that_refuses_is_waited_for_and_named")]),
    fault(51, "deadlock, serialization failure", &[Process, Simulation("StoreContention"), Test("tests/stories/proof/database_refuses.rs", "faults_48_to_55_a_database_that_refuses_is_waited_for_and_named")]),
    fault(52, "lock wait, statement timeout", &[Process, Simulation("StoreContention"), Test("crates/sink/tests/stories/stuck.rs", "a_lock_on_the_alerts_of_one_tenant_stops_that_tenant_and_nobody_else"), Test("tests/stories/proof/database_refuses.rs", "faults_48_to_55_a_database_that_refuses_is_waited_for_and_named")]),
    fault(53, "schema newer", &[Process]),
    fault(54, "a pooler in transaction mode: told at the start", &[Test("tests/stories/bad_input.rs", "fault_54_a_pooler_that_mixes_up_sessions_is_told_before_anything_is_done")]),
    fault(55, "password rotated: the login is refused", &[Process, Test("tests/stories/proof/database_refuses.rs", "faults_48_to_55_a_database_that_refuses_is_waited_for_and_named")]),
    // Processes and their host.
    fault(56, "kill -9", &[Process, Simulation("Crash"), Test("tests/stories/proof/kills.rs", "fault_56_fifty_kills_lose_nothing_and_double_nothing")]),
    fault(57, "SIGTERM", &[Process, Simulation("Stop"), Test("tests/stories/proof/handover.rs", "fault_57_a_planned_stop_hands_over_at_once_and_ends_in_time")]),
    fault(58, "a second SIGTERM", &[Process, Test("tests/stories/outages.rs", "a_second_ctrl_c_ends_at_once"), Test("tests/stories/proof/limits.rs", "faults_58_61_62_and_64_what_the_host_denies_loses_nothing")]),
    fault(59, "SIGSTOP for longer than a lease", &[Process, Simulation("Freeze"), Test("tests/stories/proof/late.rs", "fault_59_whoever_stood_still_at_a_named_step_for_longer_than_its_lease_writes_nothing_stale")]),
    fault(60, "panic in each task", &[Process, Simulation("Panic"), Test("tests/stories/proof/points.rs", "fault_60_whatever_happens_at_a_named_step_everything_is_stored_once")]),
    fault(61, "executor blocked: every thread at once by SIGSTOP, and steps that take long; no single thread is blocked", &[Process, Simulation("PointDelay"), Test("tests/stories/proof/limits.rs", "faults_58_61_62_and_64_what_the_host_denies_loses_nothing")]),
    fault(62, "limit of file descriptors", &[Process, Test("tests/stories/proof/limits.rs", "faults_58_61_62_and_64_what_the_host_denies_loses_nothing")]),
    fault(63, "limit of memory", &[Skipped("an out-of-memory kill needs a control group of our own, and would end other programs of this machine; what it sends is SIGKILL, which is fault 56")]),
    fault(64, "disk of the logs full", &[Process, Test("tests/stories/proof/limits.rs", "faults_58_61_62_and_64_what_the_host_denies_loses_nothing")]),
    // Clock, network, topology.
    fault(65, "clock steps 2 h forward", &[Simulation("StepForward"), Test("crates/token-refresher/tests/stories/clocks.rs", "a_clock_that_is_set_forward_costs_one_redemption_and_no_more_i31")]),
    fault(66, "clock steps 2 h back", &[Simulation("StepBack"), Test("crates/token-refresher/tests/stories/clocks.rs", "a_clock_that_is_set_back_lets_no_token_live_longer_i31")]),
    fault(67, "machine suspended for 10 minutes", &[Simulation("Suspend"), Test("crates/token-refresher/tests/stories/clocks.rs", "a_machine_that_slept_redeems_nothing_under_leases_that_may_have_ended_i31")]),
    fault(68, "a replica cut from the database only", &[Process, Simulation("CutFromStore"), Test("tests/stories/proof/database_away.rs", "fault_68_and_70_a_replica_that_is_cut_from_the_database_lets_go_in_time_and_comes_back")]),
    fault(69, "a replica cut from Microsoft only", &[Process, Simulation("CutFromCloud"), Test("tests/stories/proof/microsoft_away.rs", "fault_69_and_others_microsoft_away_by_host_by_customer_and_for_one_replica")]),
    fault(70, "one direction lost", &[Process, Simulation("StoreSilent"), Test("tests/stories/proof/database_away.rs", "fault_68_and_70_a_replica_that_is_cut_from_the_database_lets_go_in_time_and_comes_back")]),
    fault(71, "key ring missing, truncated, swapped", &[Process]),
    fault(72, "nothing gets out: policy or proxy", &[Process, Test(NETWORK, "fault_72_a_proxy_that_blocks_us_is_named")]),
];
