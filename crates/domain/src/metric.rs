//! Names of the metrics that more than one room or the outside relies on (contract, section 4).
//! No label ever holds a tenant name, a user, or anything unbounded.

/// Counter `{source, kind="new|updated"}`: alerts stored.
pub const ALERTS_STORED: &str = "tocsin_alerts_stored_total";
/// Counter `{source}`: records read again that were already stored.
pub const ALERTS_DUPLICATE: &str = "tocsin_alerts_duplicate_total";
/// Counter `{source, outcome}`: polls.
pub const POLLS: &str = "tocsin_poll_total";
/// Counter `{outcome}`: redemptions at the sign-in service.
pub const TOKEN_REFRESHES: &str = "tocsin_token_refresh_total";
/// Gauge `{state}`: tenants.
pub const TENANTS: &str = "tocsin_tenants";
/// Histogram, seconds: visible at the source to committed.
pub const INGEST_LAG: &str = "tocsin_ingest_lag_seconds";
/// The bounds of that histogram, and of `dash.ingest_hour`: from "at once" to "somebody slept", since the lag runs from one
/// poll interval up to a day of outage.
pub const LAG_SECONDS: &[f64] = &[1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// Histogram, seconds: due to started. Polls are due on ticks of 100 ms, at most half a tick from when chance would have it.
pub const POLL_LATENESS: &str = "tocsin_poll_lateness_seconds";
/// Counter `{source}`: records put into quarantine.
pub const QUARANTINED: &str = "tocsin_quarantined_total";
/// Gauge: tenants this replica holds.
pub const LEASES_HELD: &str = "tocsin_lease_held";
/// Gauge `{version}`: always 1.
pub const BUILD_INFO: &str = "tocsin_build_info";
/// Counter `{outcome="written|unwritten|turned-away"}`: what the pages of the consent flow refused. Written into the audit
/// each, or counted there only since they came too fast, or not even looked at.
pub const CONSENT_REFUSED: &str = "tocsin_consent_refused_total";
/// Counter `{source}`: stretches of a source that could not be read.
pub const GAPS: &str = "tocsin_gap_total";
/// Histogram, seconds: one batch, from received to committed.
pub const COMMIT_SECONDS: &str = "tocsin_commit_seconds";
/// Counter `{rung="short|long"}`: alerts that a rung of the ladder found and polling had missed. Our honesty.
pub const LATE_FOUND: &str = "tocsin_late_found_total";
/// Counter `{errand}`: re-reads that came to their end.
pub const REREADS: &str = "tocsin_reread_total";
/// Counter `{kind="missing|changed|only_stored"}`: differences that comparisons of source and store found.
pub const RECONCILE_DIFFERENCES: &str = "tocsin_reconcile_difference_total";
/// Gauge `{clock="refresh-token|app-credential|access|consent", within="30d|14d|3d|ended"}`: tenants of which a clock
/// ends within so many days, those of the nearer lines included.
pub const CLOCK_TENANTS: &str = "tocsin_clock_tenants";
/// Gauge: tenants whose account probably sees only part of the device groups.
pub const PARTIAL_SIGHTS: &str = "tocsin_partial_sight_tenants";
/// Gauge, seconds since 1970: the oldest last success among all feeds that should be read, whoever holds them.
pub const FEED_LAST_SUCCESS: &str = "tocsin_feed_last_success_timestamp_seconds";
/// Gauge `{since="0m|15m|1d"}`: active tenants that cannot be seen in whole, for at least so long.
pub const BLIND_TENANTS: &str = "tocsin_blind_tenants";
/// Gauge: stretches that could not be read and may still be read, not healed yet.
pub const OPEN_GAPS: &str = "tocsin_open_gaps";
/// Counter: tenants that this replica took or gave up.
pub const LEASE_CHANGES: &str = "tocsin_lease_changes_total";
/// Gauge: 1 while the database answers the registry, which asks about once a second.
pub const DATABASE_UP: &str = "tocsin_database_up";
/// Histogram, seconds: one small transaction, about once a second, from begin to commit.
pub const DATABASE_SECONDS: &str = "tocsin_database_seconds";
/// Gauge, seconds since 1970: when the watchdog of the service manager was last fed; only where it has one.
pub const WATCHDOG_FED: &str = "tocsin_watchdog_fed_timestamp_seconds";
/// Counter `{outcome="delivered|failed|given-up"}`: tries of the webhook, and messages that were given up.
pub const NOTIFICATIONS: &str = "tocsin_notify_total";
/// Gauge, seconds since 1970: since when the webhook has failed; 0 while it works, or where another replica tells.
pub const NOTIFY_FAILING_SINCE: &str = "tocsin_notify_failing_since_timestamp_seconds";
/// Gauge: how long the oldest change of a tenant held here waits to reach evidence and roll-ups, in seconds.
pub const DIGEST_LAG: &str = "tocsin_digest_lag_seconds";
