-- By what Microsoft's support finds an answer again, and the four clocks that run out behind one's back.

alter table tocsin.trouble
    add column trace_id text,
    add column answered_at timestamptz;
comment on column tocsin.trouble.trace_id is 'the number that Microsoft gave the request';
comment on column tocsin.trouble.answered_at is 'when Microsoft answered, by its own clock';
comment on column tocsin.trouble.action is '{tenant} in a command stands for the tenant; dash.tenant_health fills it in';
alter table tocsin.app_fault
    add column trace_id text,
    add column answered_at timestamptz;

create function tocsin.typed_name(name text, tenant uuid) returns text
    language sql immutable strict parallel safe
    return case
        when name ~ '^[[:alnum:]][[:alnum:]._@+]*$' then name
        -- What a shell would read otherwise than it looks is named by its directory id.
        when name ~ '^[[:alnum:]][^''[:cntrl:]]*$' then '''' || name || ''''
        else tenant::text
    end;
comment on function tocsin.typed_name is 'a tenant as it is typed on a command line';

create table tocsin.tenant_access (
    tenant     uuid primary key references tocsin.tenant,
    expires_at timestamptz not null,
    said_at    timestamptz not null default now()
);
comment on table tocsin.tenant_access is 'when the access package or the partner relationship (GDAP) of a tenant ends, as the operator says: Microsoft does not tell us';

create table tocsin.tenant_consent (
    tenant        uuid not null references tocsin.tenant,
    audience      text not null,
    granted       text[] not null,
    missing       text[] not null,
    missing_since timestamptz,
    seen_at       timestamptz not null default now(),
    primary key (tenant, audience),
    check ((cardinality(missing) = 0) = (missing_since is null))
);
comment on table tocsin.tenant_consent is 'the permissions that the last access token had, and which of those that the tenant''s sources need are not among them';

create table tocsin.app_clock (
    app       text primary key,
    what      text not null,
    ends_at   timestamptz not null,
    warned_at_days int
);
comment on table tocsin.app_clock is 'when the credential of an app registration ends, as configuration and certificate say; belongs to no tenant';
comment on column tocsin.app_clock.warned_at_days is 'the line that was crossed when somebody was last warned: 30, 14, 3 or 0 days';

create table tocsin.clock_warning (
    tenant         uuid not null references tocsin.tenant,
    clock          text not null,
    ends_at        timestamptz not null,
    warned_at_days int not null,
    warned_at      timestamptz not null default now(),
    primary key (tenant, clock)
);
comment on table tocsin.clock_warning is 'which clocks somebody was warned of, so that no restart and no other replica says it again';

create view dash.tenant_clock with (security_barrier) as
select
    t.tenant as directory_id,
    t.name as tenant,
    c.clock,
    c.ends_at,
    floor(extract(epoch from c.ends_at - now()) / 86400)::int as days_left,
    c.estimated,
    c.words
from tocsin.tenant t
cross join lateral (
    select
        'refresh-token' as clock,
        t.token_expires_at as ends_at,
        true as estimated,
        'the refresh token ends then unless it is used before; a daemon that runs uses it by itself. If the tenant is in trouble, sign in again: tocsin tenant invite '
            || tocsin.typed_name(t.name, t.tenant) as words
    where t.token_expires_at is not null
    union all
    select
        'app-credential',
        a.ends_at,
        false,
        'the ' || a.what || ' of app ' || a.app || ' ends then, for all of its tenants; you: make a new one in the app registration and put it into its file before'
    from tocsin.app_clock a
    where a.app = t.app
    union all
    select
        'access',
        x.expires_at,
        false,
        'our access to this tenant (access package or partner relationship) ends then; the customer''s administrator: extend it; then you: tocsin tenant set '
            || tocsin.typed_name(t.name, t.tenant) || ' --access-expires DATE'
    from tocsin.tenant_access x
    where x.tenant = t.tenant
    union all
    -- This one has run out as soon as something is missing, and has no end before.
    select
        'consent',
        min(g.missing_since),
        false,
        case
            when min(g.missing_since) is null then 'all permissions that its sources need are granted'
            else 'not granted: ' || (
                select string_agg(distinct m, ', ')
                from tocsin.tenant_consent n cross join lateral unnest(n.missing) as m
                where n.tenant = t.tenant
            ) || '; the customer''s administrator: consent through a new link, made with: tocsin tenant invite ' || tocsin.typed_name(t.name, t.tenant)
        end
    from tocsin.tenant_consent g
    where g.tenant = t.tenant
    having count(*) > 0
) c
where t.state <> 'removed';
comment on view dash.tenant_clock is 'one row per tenant and clock that is known: refresh-token, app-credential, access, consent; ends_at is null where nothing runs out';

create or replace view dash.tenant_health with (security_barrier) as
select
    t.tenant as directory_id,
    t.name as tenant,
    case when t.state = 'active' and worst.verdict in ('needs-consent', 'needs-customer') then worst.verdict else t.state end as state,
    case when t.state = 'active' and worst.verdict in ('needs-consent', 'needs-customer') then worst.since else t.state_since end as since,
    case t.state
        when 'awaiting-consent' then 'no consent and no refresh token has arrived yet'
        when 'paused' then 'paused by the operator'
        when 'offboarding' then 'being removed'
        when 'removed' then 'removed by the operator'
        else coalesce(fault.reason, worst.reason)
    end as reason,
    case t.state
        when 'awaiting-consent' then
            'the customer''s administrator: consent through a link, made with: tocsin tenant invite ' || tocsin.typed_name(t.name, t.tenant)
        when 'paused' then 'when it shall be read again, type: tocsin tenant resume ' || t.tenant::text
        when 'active' then replace(coalesce(fault.action, worst.action), '{tenant}', tocsin.typed_name(t.name, t.tenant))
    end as action,
    case when t.state = 'active' then case when fault.app is not null then fault.error_code else worst.error_code end end as error_code,
    t.token_expires_at,
    t.last_refresh_at,
    case when t.state = 'active' then case when fault.app is not null then fault.trace_id else worst.trace_id end end as trace_id,
    case when t.state = 'active' then case when fault.app is not null then fault.answered_at else worst.answered_at end end as answered_at
from tocsin.tenant t
left join tocsin.app_fault fault on fault.app = t.app and fault.cloud = t.cloud
left join lateral (
    select *
    from tocsin.trouble x
    where x.tenant = t.tenant and x.shown_from <= now() and (x.origin = 'sign-in' or x.origin = any (t.sources))
    order by case x.verdict when 'needs-consent' then 0 when 'needs-customer' then 1 else 2 end, x.since
    limit 1
) worst on true;
