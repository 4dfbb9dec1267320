-- Accounts that see less than there is: Defender for Endpoint shows a user only the devices of his own device groups.

create table tocsin.partial_sight (
    tenant    uuid primary key references tocsin.tenant,
    since     timestamptz not null default now(),
    compared  bigint not null,
    missing   bigint not null check (missing > 0),
    newest_at timestamptz not null
);
comment on table tocsin.partial_sight is
    'delegated tenants of which graph-alerts holds alerts of Defender for Endpoint that mde-alerts lacks, as last compared; deleted when it lacks none';
comment on column tocsin.partial_sight.compared is 'alerts of Defender for Endpoint made in the last week that both sources have had time to deliver';
comment on column tocsin.partial_sight.newest_at is 'when the newest of the missing ones was made';

create view dash.partial_sight with (security_barrier) as
select
    t.tenant as directory_id,
    t.name as tenant,
    s.since,
    s.compared,
    s.missing,
    s.newest_at,
    s.missing || ' of ' || s.compared || ' alerts of Defender for Endpoint of the last week never came through mde-alerts, as graph-alerts shows: '
        || 'the account that reads this tenant probably sees only part of the device groups; '
        || 'the customer''s administrator: give it all device groups in the Defender portal, or consent to an app with permissions of its own' as words
from tocsin.partial_sight s
join tocsin.tenant t using (tenant)
where t.state = 'active';
comment on view dash.partial_sight is
    'one row per tenant whose account probably sees only part of its device groups: missing of compared alerts came through graph-alerts alone';
