//! What runs out behind our backs: refresh tokens, credentials of apps, access packages, consent.

use super::{chosen, to_be_read};
use crate::{Alarm, Board, Kind, Panel, Source, Unit, Variable, figure, figure_in, when, words};

pub(super) const BOARD: Board = Board {
    uid: "tocsin-tokens",
    title: "Tokens",
    description: "What runs out behind our backs: which customers cannot be signed in to, and which will not be soon.",
    source: Source::Postgres,
    variables: &[Variable::Tenant],
    panels: &[
        Panel {
            title: "Customers who must act",
            description: "Customers whose consent or policy keeps us out. Now.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Act(1)),
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select count(*) filter (where state in ('needs-consent', 'needs-customer')) as customers
from dash.tenant_health
where ",
                to_be_read!(),
                " and ",
                chosen!(),
                "
having count(*) > 0"
            ),
            columns: &[figure("customers")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Ending within 14 days",
            description: "Customers of which a known clock has ended or ends within 14 days: refresh token (estimated), app credential, access, consent.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Warn(1)),
            empty: "No clock is known yet: customers have not signed in.",
            query: concat!(
                "select count(distinct directory_id) filter (where days_left < 14) as customers
from dash.tenant_clock
where ",
                chosen!(),
                "
having count(*) > 0"
            ),
            columns: &[figure("customers")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Waiting for consent",
            description: "Customers that have been entered and have not consented yet.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Never),
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select count(*) filter (where state = 'awaiting-consent') as customers
from dash.tenant_health
where state <> 'removed' and ",
                chosen!(),
                "
having count(*) > 0"
            ),
            columns: &[figure("customers")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "See only a part",
            description: "Customers whose account probably sees only part of the device groups.",
            unit: Unit::Count,
            kind: Kind::Stat(Alarm::Warn(1)),
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select (select count(*) from dash.partial_sight where ",
                chosen!(),
                ") as customers
where exists (select from dash.tenant_health where ",
                chosen!(),
                ")"
            ),
            columns: &[figure("customers")],
            width: 6,
            height: 4,
        },
        Panel {
            title: "Days until a refresh token ends",
            description: "Customers by the estimated days that are left to their refresh token: it dies after 90 days without use, and every use begins them anew.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No refresh token is known yet: customers have not signed in.",
            query: concat!(
                "select
    case
        when days_left < 0 then 'ended'
        when days_left < 3 then 'under 3 days'
        when days_left < 14 then '3 to 13 days'
        when days_left < 30 then '14 to 29 days'
        when days_left < 60 then '30 to 59 days'
        else '60 days and more'
    end as left,
    count(*) as customers
from dash.tenant_clock
where clock = 'refresh-token' and days_left is not null and ",
                chosen!(),
                "
group by 1
order by min(days_left)"
            ),
            columns: &[words("left"), figure("customers")],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Customers by state",
            description: "All customers by what keeps us from reading them, if anything does. Now.",
            unit: Unit::Count,
            kind: Kind::Ranking,
            empty: "No customers yet. `tocsin tenant import` brings the first ones in.",
            query: concat!(
                "select state, count(*) as customers
from dash.tenant_health
where ",
                chosen!(),
                "
group by state
order by customers desc, state"
            ),
            columns: &[words("state"), figure("customers")],
            width: 12,
            height: 8,
        },
        Panel {
            title: "Which ends first",
            description: "The clocks that end first, one for each line, and what to do about each. An estimated end is only that.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "No clock is known yet: customers have not signed in.",
            query: concat!(
                "select tenant as customer, clock, days_left as \"days left\", ends_at as ends, case when estimated then 'estimated' else 'known' end as sure, words
from dash.tenant_clock
where ends_at is not null and ",
                chosen!(),
                "
order by ends_at, tenant, clock
limit 100"
            ),
            columns: &[
                words("customer"),
                words("clock"),
                figure_in("days left", Unit::Days),
                when("ends"),
                words("sure"),
                words("words"),
            ],
            width: 24,
            height: 10,
        },
        Panel {
            title: "What does not work",
            description: "Customers with trouble: the reason, since when, who must do what, and the number by which Microsoft's support finds its answer.",
            unit: Unit::None,
            kind: Kind::Table,
            empty: "Nothing is known not to work.",
            query: concat!(
                "select tenant as customer, state, since, reason, coalesce(action, '') as \"what to do\", coalesce(error_code, '') as code, coalesce(trace_id, '') as trace
from dash.tenant_health
where reason is not null and ",
                to_be_read!(),
                " and ",
                chosen!(),
                "
order by since, tenant
limit 100"
            ),
            columns: &[
                words("customer"),
                words("state"),
                when("since"),
                words("reason"),
                words("what to do"),
                words("code"),
                words("trace"),
            ],
            width: 24,
            height: 9,
        },
    ],
};
