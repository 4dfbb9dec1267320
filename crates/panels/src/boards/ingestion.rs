//! Whether everything arrives: how late, from where, and what does not.

use super::{chosen, not_polled, polled};
use crate::{Alarm, Board, Kind, Panel, SERIES, Source, Unit, Variable, figure, figure_in, when, words};

pub(super) const BOARD: Board = Board {
    uid: "tocsin-ingestion",
    title: "Ingestion",
    description: "Whether everything arrives: how late it is stored, which source is behind, and what could not be read.",
    source: Source::Postgres,
    variables: &[Variable::Tenant],
    panels: &[
        Panel {
            title: "Worst lag now",
            description: "How old the newest instant is up to which everything is stored, at the source that is furthest behind.",
            unit: Unit::Seconds,
            kind: Kind::Stat(Alarm::Warn(1800)),
            empty: not_polled!(),
            query: concat!(
                "select max(lag_seconds) as lag
from dash.feed_health
where lag_seconds is not null and ",
                chosen!(),
                "
having count(*) > 0"
            ),
            columns: &[figure("lag")],
            width: 5,
            height: 4,
        },
        Panel {
            title: "Stored within",
            description: "From visible at the source to stored, of all customers together: half and nineteen of twenty versions of the range were not \
                later than this, by the limits of a histogram.",
            unit: Unit::Seconds,
            kind: Kind::Stat(Alarm::Never),
            empty: "Nothing was stored in this range; only who may see every customer sees this.",
            query: "select
    min(le_seconds) filter (where versions >= 0.5 * total and le_seconds < 'infinity') as half,
    min(le_seconds) filter (where versions >= 0.95 * total and le_seconds < 'infinity') as \"95 %\"
from (
    select le_seconds, sum(versions) as versions, max(sum(versions)) over () as total
    from dash.ingest_hour
    where $__timeFilter(hour)
    group by le_seconds
) h
where total > 0
having count(*) > 0",
            columns: &[figure("half"), figure("95 %")],
            width: 7,
            height: 4,
        },
        Panel {
            title: "Throttled sources",
            description: "Sources that Microsoft has asked us to leave alone for a while. Now.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Warn(1)),
            empty: not_polled!(),
            query: concat!(
                "select count(*) filter (where throttled_until is not null) as throttled
from dash.feed_health
where ",
                chosen!(),
                "
having ",
                polled!()
            ),
            columns: &[figure("throttled")],
            width: 4,
            height: 4,
        },
        Panel {
            title: "In quarantine",
            description: "Records that could not be understood and are kept as they came. `tocsin quarantine list` shows them.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Warn(1)),
            empty: not_polled!(),
            query: concat!("select count(*) as records\nfrom dash.quarantine\nwhere ", chosen!(), "\nhaving ", polled!()),
            columns: &[figure("records")],
            width: 4,
            height: 4,
        },
        Panel {
            title: "Open gaps",
            description: "Stretches of a source that could not be read and have not been healed.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Act(1)),
            empty: not_polled!(),
            query: concat!("select count(*) as gaps\nfrom dash.gap\nwhere healed_at is null and ", chosen!(), "\nhaving ", polled!()),
            columns: &[figure("gaps")],
            width: 4,
            height: 4,
        },
        Panel {
            title: "Lateness",
            description: "From visible at the source to stored, of all customers together, by the hour: what 50, 95 and 99 of 100 versions stay \
                within, by the limits of a histogram. What is later than its last limit has no point.",
            unit: Unit::Seconds,
            kind: Kind::Lines(3600),
            empty: "Nothing was stored in this range; only who may see every customer sees this.",
            query: "select
    time,
    min(le_seconds) filter (where versions >= 0.5 * total and le_seconds < 'infinity') as p50,
    min(le_seconds) filter (where versions >= 0.95 * total and le_seconds < 'infinity') as p95,
    min(le_seconds) filter (where versions >= 0.99 * total and le_seconds < 'infinity') as p99
from (
    select time, le_seconds, sum(versions) as versions, max(sum(versions)) over (partition by time) as total
    from (
        select $__timeGroupAlias(hour, $__interval), le_seconds, versions
        from dash.ingest_hour
        where $__timeFilter(hour)
    ) stepped
    group by time, le_seconds
) h
where total > 0
group by time
order by time",
            columns: &[SERIES[0], figure("p50"), figure("p95"), figure("p99")],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Versions stored",
            description: "Versions of alerts stored by the hour, of all customers together.",
            unit: Unit::Count,
            kind: Kind::Bars(3600),
            empty: "Nothing was stored in this range; only who may see every customer sees this.",
            query: "select $__timeGroupAlias(hour, $__interval), sum(versions)::bigint as versions
from dash.ingest_hour
where $__timeFilter(hour) and le_seconds = 'infinity'
group by 1
order by 1",
            columns: &[SERIES[0], figure("versions")],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Furthest behind",
            description: "The fifteen sources with the largest lag. Now.",
            unit: Unit::Seconds,
            kind: Kind::Ranking,
            empty: not_polled!(),
            query: concat!(
                "select tenant || ' ' || source as source, lag_seconds as lag
from dash.feed_health
join dash.tenant_health using (directory_id)
where lag_seconds is not null and ",
                chosen!(),
                "
order by lag_seconds desc
limit 15"
            ),
            columns: &[words("source"), figure("lag")],
            width: 8,
            height: 10,
        },
        Panel {
            title: "Sources",
            description: "Every source of the chosen customers, the one that was read longest ago first. Now.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select tenant as customer, source, state, last_success_at as \"last read\", lag_seconds as lag, coalesce(last_error, '') as \"last error\",
    throttled_until as \"throttled until\", quarantined
from dash.feed_health
join dash.tenant_health using (directory_id)
where ",
                chosen!(),
                "
order by last_success_at nulls first, tenant, source
limit 200"
            ),
            columns: &[
                words("customer"),
                words("source"),
                words("state"),
                when("last read"),
                figure_in("lag", Unit::Seconds),
                words("last error"),
                when("throttled until"),
                figure_in("quarantined", Unit::Count),
            ],
            width: 16,
            height: 10,
        },
        Panel {
            title: "Gaps",
            description: "Stretches of a source that could not be read and fall into the range, the open ones first.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No gap in this range.",
            query: concat!(
                "select tenant as customer, source, from_at as \"from\", to_at as \"to\", dash.gap.reason as why, healed_at as healed
from dash.gap
join dash.tenant_health using (directory_id)
where to_at >= $__timeFrom() and from_at <= $__timeTo() and ",
                chosen!(),
                "
order by healed_at is not null, from_at desc
limit 100"
            ),
            columns: &[words("customer"), words("source"), when("from"), when("to"), words("why"), when("healed")],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Comparisons that found a difference",
            description: "Comparisons of source and store in the range in which something was missing or differed; both were put right on the spot.",
            unit: Unit::Count,
            kind: Kind::Table,
            empty: "No comparison of this range found a difference.",
            query: concat!(
                "select finished_at as finished, tenant as customer, source, at_source as \"at source\", missing, changed
from dash.reconciliation
join dash.tenant_health using (directory_id)
where $__timeFilter(finished_at) and missing + changed > 0 and ",
                chosen!(),
                "
order by finished_at desc
limit 100"
            ),
            columns: &[when("finished"), words("customer"), words("source"), figure("at source"), figure("missing"), figure("changed")],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Reading again",
            description: "Backfills, comparisons and the rungs of the ladder that wait or run, and how far each has come.",
            unit: Unit::Share,
            kind: Kind::Table,
            empty: "Nothing is being read again.",
            query: concat!(
                "select tenant as customer, source, errand, dash.reread.state, done, records, moved_at as moved
from dash.reread
join dash.tenant_health using (directory_id)
where dash.reread.state in ('waiting', 'running') and ",
                chosen!(),
                "
order by errand = 'backfill' desc, moved_at desc nulls last
limit 100"
            ),
            columns: &[
                words("customer"),
                words("source"),
                words("errand"),
                words("state"),
                figure("done"),
                figure_in("records", Unit::Count),
                when("moved"),
            ],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Derived data behind",
            description: "Customers whose roll-ups, evidence and techniques are furthest behind what is stored, and how many alerts wait.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "Nothing has been derived yet: the roll-ups are empty, and so are the panels that read them.",
            query: concat!(
                "select tenant as customer, lag_seconds as lag, waiting
from dash.digest_health
where ",
                chosen!(),
                "
order by waiting desc, lag_seconds desc nulls first
limit 20"
            ),
            columns: &[words("customer"), figure_in("lag", Unit::Seconds), figure_in("waiting", Unit::Count)],
            width: 12,
            height: 8,
        },
    ],
};
