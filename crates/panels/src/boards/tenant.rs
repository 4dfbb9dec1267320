//! One customer, or a few: where it stands, what happens there, and to whom.

use super::{chosen, days, not_polled, polled, severe};
use crate::{Alarm, Board, Column, Holds, Kind, Panel, SERIES, Source, Unit, Variable, figure, figure_in, when, words};

/// What alerts name most, of one kind.
macro_rules! named_most {
    ($kind:literal) => {
        concat!(
            "select value as name, count(*) as alerts
from dash.evidence
where kind = '",
            $kind,
            "' and created_at > $__timeTo()::timestamptz - interval '7 days' and $__timeFilter(created_at) and ",
            chosen!(),
            "
group by value
order by alerts desc, name
limit 20"
        )
    };
}

pub(super) const BOARD: Board = Board {
    uid: "tocsin-tenant",
    title: "Customers",
    description: "Where the chosen customers stand, what happens there, and which devices, people and techniques it is about.",
    source: Source::Postgres,
    variables: &[Variable::Tenant, Variable::Severity],
    panels: &[
        Panel {
            title: "Where they stand",
            description: "State of each chosen customer: since when, why, and who must do what. Now, whatever the range.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select tenant as customer, state, since, coalesce(reason, '') as reason, coalesce(action, '') as \"what to do\", directory_id::text as directory
from dash.tenant_health
where ",
                chosen!(),
                "
order by case state when 'needs-consent' then 0 when 'needs-customer' then 1 when 'awaiting-consent' then 2 when 'active' then 3 else 4 end, tenant
limit 200"
            ),
            columns: &[
                words("customer"),
                words("state"),
                when("since"),
                words("reason"),
                words("what to do"),
                Column { name: "directory", holds: Holds::Customer },
            ],
            width: 24,
            height: 7,
        },
        Panel {
            title: "Worst lag",
            description: "How old the newest instant is up to which everything is stored, at the source that is furthest behind. Now.",
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
            width: 6,
            height: 4,
        },
        Panel {
            title: "Open alerts",
            description: "Alerts of the chosen severities that are not resolved. Now, whenever they were created.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Never),
            empty: not_polled!(),
            query: concat!(
                "select coalesce(sum(alerts), 0)::bigint as open
from dash.alert_day
where status is distinct from 'resolved' and ",
                severe!(),
                " and ",
                chosen!(),
                "
having ",
                polled!()
            ),
            columns: &[figure("open")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Created in the range",
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
            width: 6,
            height: 4,
        },
        Panel {
            title: "Days until something runs out",
            description: "Of the clocks that are known (refresh token, app credential, access, consent), the one that ends first. The end of a refresh \
                token is an estimate: Microsoft does not say it.",
            unit: Unit::Days,
            kind: Kind::Stat(Alarm::Never),
            empty: "No clock is known yet: customers have not signed in.",
            query: concat!(
                "select min(days_left) as days
from dash.tenant_clock
where days_left is not null and ",
                chosen!(),
                "
having count(*) > 0"
            ),
            columns: &[figure("days")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Alerts per day by severity",
            description: "Alerts of the chosen severities by the day of their creation (UTC).",
            unit: Unit::Count,
            kind: Kind::Bars(86400),
            empty: "No alerts in this range. Whether the customers are being read says the lag above.",
            query: concat!(
                "select day::timestamp at time zone 'UTC' as time, coalesce(nullif(severity, ''), 'unknown') as metric, sum(alerts)::bigint as value
from dash.alert_day
where ",
                days!(),
                " and ",
                severe!(),
                " and ",
                chosen!(),
                "
group by day, 2
order by day, 2"
            ),
            columns: SERIES,
            width: 16,
            height: 8,
        },
        Panel {
            title: "How far alerts have come",
            description: "Alerts created on the days of the range, by their status now.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No alerts in this range.",
            query: concat!(
                "select coalesce(nullif(status, ''), 'unknown') as status, sum(alerts)::bigint as alerts
from dash.alert_day
where ",
                days!(),
                " and ",
                severe!(),
                " and ",
                chosen!(),
                "
group by 1
order by alerts desc, 1"
            ),
            columns: &[words("status"), figure("alerts")],
            width: 8,
            height: 8,
        },
        Panel {
            title: "Devices",
            description: "The twenty devices that most alerts name, of those created in the last seven days of the range.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No alert of the last seven days of this range names a device.",
            query: named_most!("device"),
            columns: &[words("name"), figure("alerts")],
            width: 8,
            height: 10,
        },
        Panel {
            title: "People",
            description: "The twenty user accounts that most alerts name, of those created in the last seven days of the range.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No alert of the last seven days of this range names a user.",
            query: named_most!("user"),
            columns: &[words("name"), figure("alerts")],
            width: 8,
            height: 10,
        },
        Panel {
            title: "Techniques",
            description: "The twenty MITRE ATT&CK techniques of most alerts created on the days of the range.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No alert of this range names a technique.",
            query: concat!(
                "select technique, sum(alerts)::bigint as alerts
from dash.technique_day
where ",
                days!(),
                " and ",
                chosen!(),
                "
group by technique
order by alerts desc, technique
limit 20"
            ),
            columns: &[words("technique"), figure("alerts")],
            width: 8,
            height: 10,
        },
        Panel {
            title: "Alerts",
            description: "The hundred alerts of the chosen severities that were stored or changed last, in the last 24 hours of the range, with the way to each in the Defender portal.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No alert was stored or changed in the last 24 hours of this range.",
            query: concat!(
                "select last_stored_at as stored, tenant as customer, coalesce(severity, 'unknown') as severity, title as alert, status,
    coalesce(service_source, '') as service, version_count as versions, portal_url as portal
from dash.alert
where last_stored_at > $__timeTo()::timestamptz - interval '1 day' and $__timeFilter(last_stored_at) and ",
                severe!(),
                " and ",
                chosen!(),
                "
order by last_stored_at desc
limit 100"
            ),
            columns: &[
                when("stored"),
                words("customer"),
                words("severity"),
                words("alert"),
                words("status"),
                words("service"),
                figure_in("versions", Unit::Count),
                Column { name: "portal", holds: Holds::Address },
            ],
            width: 24,
            height: 11,
        },
    ],
};
