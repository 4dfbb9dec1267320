//! What an analyst opens in the morning: how much came in, how bad, for whom, how fast it is taken up, and who is blind.

use super::{chosen, days, not_polled, polled, response, severe, to_be_read};
use crate::{Alarm, Board, Column, Holds, Kind, Panel, SERIES, Source, Unit, Variable, figure, when, words};

pub(super) const BOARD: Board = Board {
    uid: "tocsin-overview",
    title: "Overview",
    description: "How much came in, how bad it is, for whom, how fast it is taken up, and which customers cannot be seen.",
    source: Source::Postgres,
    variables: &[Variable::Tenant, Variable::Severity],
    panels: &[
        Panel {
            title: "Customers we cannot see",
            description: "Customers that ought to be read and are waiting for a person (needs-consent, needs-customer), or of which a source has not been read for 30 minutes, or never. Now, whatever the range.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Act(1)),
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select count(distinct directory_id) as blind
from dash.feed_health
join dash.tenant_health using (directory_id)
where (state in ('needs-consent', 'needs-customer') or last_success_at is null or last_success_at < now() - interval '30 minutes') and ",
                to_be_read!(),
                " and ",
                chosen!(),
                "
having exists (select from dash.tenant_health where ",
                to_be_read!(),
                " and ",
                chosen!(),
                ")"
            ),
            columns: &[figure("blind")],
            width: 4,
            height: 4,
        },
        Panel {
            title: "Open alerts of high severity",
            description: "Alerts of high severity that are not resolved. Now, whenever they were created.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Warn(1)),
            empty: not_polled!(),
            query: concat!(
                "select coalesce(sum(alerts), 0)::bigint as open
from dash.alert_day
where severity = 'high' and status is distinct from 'resolved' and ",
                chosen!(),
                "
having ",
                polled!()
            ),
            columns: &[figure("open")],
            width: 4,
            height: 4,
        },
        Panel {
            title: "Alerts created",
            description: "Alerts of the chosen severities created on the days of the range (UTC, first and last day whole).",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Never),
            empty: not_polled!(),
            query: concat!(
                "select coalesce(sum(alerts), 0)::bigint as created
from dash.alert_day
where ",
                days!(),
                " and ",
                severe!(),
                " and ",
                chosen!(),
                "
having ",
                polled!()
            ),
            columns: &[figure("created")],
            width: 4,
            height: 4,
        },
        Panel {
            title: "Time to acknowledge",
            description: "From first stored to first seen assigned or moved on from new: the median, and what nine of ten stay within, of alerts \
                created on the days of the range. True to a fifth and to a poll interval. Alerts of which it was not observed are counted beside it.",
            unit: Unit::Seconds,
            kind: Kind::Stat(Alarm::Never),
            empty: "Nothing acknowledged that was created in this range.",
            query: response!("acknowledged"),
            columns: &[figure("median"), figure("nine of ten")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Time to close",
            description: "From first stored to first seen resolved: the median, and what nine of ten stay within, of alerts created on the days of \
                the range. True to a fifth and to a poll interval. Alerts of which it was not observed are counted beside it.",
            unit: Unit::Seconds,
            kind: Kind::Stat(Alarm::Never),
            empty: "Nothing closed that was created in this range.",
            query: response!("closed"),
            columns: &[figure("median"), figure("nine of ten")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Alerts per hour",
            description: "Alerts of the chosen severities by the hour of their creation, of all customers together, whichever are chosen.",
            unit: Unit::Count,
            kind: Kind::Bars(3600),
            empty: "No alerts in this range. Whether customers are being read says the first panel; only who may see every customer sees this one.",
            query: concat!(
                "select $__timeGroupAlias(hour, $__interval), coalesce(nullif(severity, ''), 'unknown') as metric, sum(alerts)::bigint as value
from dash.alert_hour
where $__timeFilter(hour) and ",
                severe!(),
                "
group by 1, 2
order by 1, 2"
            ),
            columns: SERIES,
            width: 16,
            height: 8,
        },
        Panel {
            title: "Not observed yet",
            description: "Of the alerts created on the days of the range, those of which no acknowledgement and no closing was observed. Those that \
                were in work or closed already when they were first read are among them.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Never),
            empty: not_polled!(),
            query: concat!(
                "select
    greatest(c.alerts - r.acknowledged, 0)::bigint as acknowledgement,
    greatest(c.alerts - r.closed, 0)::bigint as closing
from (select coalesce(sum(alerts), 0) as alerts from dash.alert_day where ",
                days!(),
                " and ",
                chosen!(),
                ") c
cross join (
    select coalesce(sum(acknowledged), 0) as acknowledged, coalesce(sum(closed), 0) as closed
    from dash.response_day
    where ",
                days!(),
                " and ",
                chosen!(),
                "
) r
where ",
                polled!()
            ),
            columns: &[figure("acknowledgement"), figure("closing")],
            width: 8,
            height: 8,
        },
        Panel {
            title: "Alerts by customer",
            description: "The fifteen customers with the most alerts of the chosen severities on the days of the range, and all others together.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No alerts in this range.",
            query: concat!(
                "select case when place <= 15 then tenant else 'all others' end as customer, sum(alerts)::bigint as alerts
from (
    select t.tenant, d.alerts, row_number() over (order by d.alerts desc, t.tenant) as place
    from (
        select directory_id, sum(alerts) as alerts
        from dash.alert_day
        where ",
                days!(),
                " and ",
                severe!(),
                " and ",
                chosen!(),
                "
        group by directory_id
    ) d
    join dash.tenant_health t using (directory_id)
) ranked
group by 1, least(place, 16)
order by least(place, 16)"
            ),
            columns: &[words("customer"), figure("alerts")],
            width: 12,
            height: 9,
        },
        Panel {
            title: "Time to acknowledge and to close, by day",
            description: "The median of the alerts created on each day (UTC), from first stored to first observed.",
            unit: Unit::Seconds,
            kind: Kind::Lines(86400),
            empty: "Nothing acknowledged or closed that was created in this range.",
            query: concat!(
                "select day::timestamp at time zone 'UTC' as time, step as metric,
    2 ^ (min(bucket) filter (where reached >= 0.5 * total) / 4.0::double precision) as value
from (
    select
        day,
        step,
        bucket,
        sum(alerts) over (partition by day, step order by bucket) as reached,
        sum(alerts) over (partition by day, step) as total
    from (
        select day, bucket, sum(acknowledged) as acknowledged, sum(closed) as closed
        from dash.response_day
        where ",
                days!(),
                " and ",
                chosen!(),
                "
        group by day, bucket
    ) d
    cross join lateral (values ('acknowledged', acknowledged), ('closed', closed)) as s(step, alerts)
    where alerts > 0
) h
group by day, step
order by day, step"
            ),
            columns: SERIES,
            width: 12,
            height: 9,
        },
        Panel {
            title: "Newest alerts of high severity",
            description: "The fifty alerts of high severity that were stored or changed last, in the last 24 hours of the range, with the way to each in the Defender portal.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No alert of high severity was stored or changed in the last 24 hours of this range.",
            query: concat!(
                "select last_stored_at as stored, tenant as customer, title as alert, status, coalesce(assigned_to, '') as assigned, portal_url as portal
from dash.alert
where last_stored_at > $__timeTo()::timestamptz - interval '1 day' and $__timeFilter(last_stored_at) and severity = 'high' and ",
                chosen!(),
                "
order by last_stored_at desc
limit 50"
            ),
            columns: &[
                when("stored"),
                words("customer"),
                words("alert"),
                words("status"),
                words("assigned"),
                Column { name: "portal", holds: Holds::Address },
            ],
            width: 24,
            height: 11,
        },
    ],
};
