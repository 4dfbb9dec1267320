-- A paused tenant is kept alive and can be tried; what signing in comes to then is shown, although it is paused.

create or replace view dash.tenant_health with (security_barrier) as
select
    t.tenant as directory_id,
    t.name as tenant,
    case when t.state = 'active' and worst.verdict in ('needs-consent', 'needs-customer') then worst.verdict else t.state end as state,
    case when t.state = 'active' and worst.verdict in ('needs-consent', 'needs-customer') then worst.since else t.state_since end as since,
    case t.state
        when 'awaiting-consent' then 'no consent and no refresh token has arrived yet'
        when 'paused' then 'paused by the operator' || coalesce('; and ' || coalesce(fault.reason, worst.reason), '')
        when 'offboarding' then 'being removed'
        when 'removed' then 'removed by the operator'
        else coalesce(fault.reason, worst.reason)
    end as reason,
    case
        when t.state = 'awaiting-consent' then
            'the customer''s administrator: consent through a link, made with: tocsin tenant invite ' || tocsin.typed_name(t.name, t.tenant)
        when tried.it and coalesce(fault.action, worst.action) is not null then
            replace(coalesce(fault.action, worst.action), '{tenant}', tocsin.typed_name(t.name, t.tenant))
        when t.state = 'paused' then 'when it shall be read again, type: tocsin tenant resume ' || t.tenant::text
    end as action,
    case when tried.it then case when fault.app is not null then fault.error_code else worst.error_code end end as error_code,
    t.token_expires_at,
    t.last_refresh_at,
    case when tried.it then case when fault.app is not null then fault.trace_id else worst.trace_id end end as trace_id,
    case when tried.it then case when fault.app is not null then fault.answered_at else worst.answered_at end end as answered_at
from tocsin.tenant t
cross join lateral (select t.state in ('active', 'paused') as it) tried
left join tocsin.app_fault fault on fault.app = t.app and fault.cloud = t.cloud
left join lateral (
    select *
    from tocsin.trouble x
    where x.tenant = t.tenant and x.shown_from <= now()
        -- The sources of a paused tenant are not read: what they last said is old.
        and (x.origin = 'sign-in' or (t.state = 'active' and x.origin = any (t.sources)))
    order by case x.verdict when 'needs-consent' then 0 when 'needs-customer' then 1 else 2 end, x.since
    limit 1
) worst on true;
