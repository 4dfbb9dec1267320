//! What costs people time for nothing: which detections are many, and which of them are wrong.

use super::{chosen, days, not_polled, polled};
use crate::{Alarm, Board, Kind, Panel, SERIES, Source, Unit, Variable, figure, figure_in, when, words};

/// Detections by title and customer: how many customers has one is counted without sorting every day of it.
macro_rules! by_customer {
    () => {
        concat!(
            "select title, directory_id, sum(alerts) as alerts, sum(true_positives) as true_positives, sum(false_positives) as false_positives
    from dash.detection_day
    where ",
            days!(),
            " and ",
            chosen!(),
            "
    group by title, directory_id"
        )
    };
}

pub(super) const BOARD: Board = Board {
    uid: "tocsin-noise",
    title: "Noise",
    description: "What costs people time for nothing: which detections make most alerts, and which of them people have found to be false.",
    source: Source::Postgres,
    variables: &[Variable::Tenant],
    panels: &[
        Panel {
            title: "Share of the ten loudest",
            description: "The part of all alerts, created on the days of the range, that the ten most frequent detections make.",
            unit: Unit::Share,
            kind: Kind::Stat(Alarm::Never),
            empty: "No alerts in this range.",
            query: concat!(
                "select (sum(alerts) filter (where place <= 10) / sum(alerts))::double precision as share
from (
    select sum(alerts) as alerts, row_number() over (order by sum(alerts) desc) as place
    from dash.detection_day
    where ",
                days!(),
                " and ",
                chosen!(),
                "
    group by title
) ranked
having sum(alerts) > 0"
            ),
            columns: &[figure("share")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Found to be false",
            description: "Of the alerts created on the days of the range that people have classified as true or false, the part that was false.",
            unit: Unit::Share,
            kind: Kind::Stat(Alarm::Never),
            empty: "No alert of this range has been classified as true or false.",
            query: concat!(
                "select (sum(false_positives) / sum(true_positives + false_positives))::double precision as share
from dash.detection_day
where ",
                days!(),
                " and ",
                chosen!(),
                "
having sum(true_positives + false_positives) > 0"
            ),
            columns: &[figure("share")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Not classified",
            description: "Alerts created on the days of the range that nobody has classified as true or false. The shares beside say nothing of them.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Never),
            empty: not_polled!(),
            query: concat!(
                "select coalesce(sum(alerts - true_positives - false_positives), 0)::bigint as alerts
from dash.detection_day
where ",
                days!(),
                " and ",
                chosen!(),
                "
having ",
                polled!()
            ),
            columns: &[figure("alerts")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Came back",
            description: "Alerts that were seen to be opened again in the range after they had been resolved.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Never),
            empty: not_polled!(),
            query: concat!(
                "select count(distinct (directory_id, alert_id)) as alerts
from dash.alert_event
where field = 'status' and old_value = 'resolved' and $__timeFilter(seen_at) and ",
                chosen!(),
                "
having ",
                polled!()
            ),
            columns: &[figure("alerts")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Loudest detections",
            description: "The twenty detections, by title, with most alerts created on the days of the range: their part of all, the part found false of \
                those classified, and at how many customers.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No alerts in this range.",
            query: concat!(
                "select title as detection, alerts, (alerts / total)::double precision as share,
    (false_positives / nullif(true_positives + false_positives, 0))::double precision as \"found false\", classified, customers
from (
    select
        title,
        sum(alerts) as alerts,
        sum(sum(alerts)) over () as total,
        sum(true_positives) as true_positives,
        sum(false_positives) as false_positives,
        sum(true_positives + false_positives)::bigint as classified,
        count(*) as customers
    from (",
                by_customer!(),
                ") c
    group by title
) t
order by alerts desc, title
limit 20"
            ),
            columns: &[
                words("detection"),
                figure_in("alerts", Unit::Count),
                figure_in("share", Unit::Share),
                figure_in("found false", Unit::Share),
                figure_in("classified", Unit::Count),
                figure_in("customers", Unit::Count),
            ],
            width: 24,
            height: 11,
        },
        Panel {
            title: "Found to be false, by day",
            description: "Of the alerts created on each day (UTC) that people have classified as true or false, the part that was false.",
            unit: Unit::Share,
            kind: Kind::Lines(86400),
            empty: "No alert of this range has been classified as true or false.",
            query: concat!(
                "select day::timestamp at time zone 'UTC' as time,
    (sum(false_positives) / sum(true_positives + false_positives))::double precision as \"found false\"
from dash.detection_day
where ",
                days!(),
                " and ",
                chosen!(),
                "
group by day
having sum(true_positives + false_positives) > 0
order by day"
            ),
            columns: &[SERIES[0], figure("found false")],
            width: 12,
            height: 9,
        },
        Panel {
            title: "Candidates for a suppression rule",
            description: "Detections with twenty alerts and more, five and more of them classified, nine of ten of those false. Look before you suppress.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No detection of this range is frequent and nearly always false.",
            query: concat!(
                "select title as detection, sum(alerts)::bigint as alerts,
    (sum(false_positives) / sum(true_positives + false_positives))::double precision as \"found false\", count(*) as customers
from (",
                by_customer!(),
                ") c
group by title
having sum(alerts) >= 20 and sum(true_positives + false_positives) >= 5
    and sum(false_positives) >= 0.9 * sum(true_positives + false_positives)
order by 2 desc, 1
limit 50"
            ),
            columns: &[
                words("detection"),
                figure_in("alerts", Unit::Count),
                figure_in("found false", Unit::Share),
                figure_in("customers", Unit::Count),
            ],
            width: 12,
            height: 9,
        },
        Panel {
            title: "Opened again",
            description: "Alerts that were seen to be opened again in the range after they had been resolved, the latest first.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No alert was opened again in this range.",
            query: concat!(
                "select seen_at as seen, tenant as customer, alert_id as alert, new_value as status
from dash.alert_event
join dash.tenant_health using (directory_id)
where field = 'status' and old_value = 'resolved' and $__timeFilter(seen_at) and ",
                chosen!(),
                "
order by seen_at desc
limit 50"
            ),
            columns: &[when("seen"), words("customer"), words("alert"), words("status")],
            width: 24,
            height: 8,
        },
    ],
};
