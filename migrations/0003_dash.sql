-- The public read side. Names and types here are a contract: change them only with a migration path.
--
-- No view extracts anything from raw in SQL: one body with \u0000 in it would fail the whole query.
-- raw is fetched by a scalar subquery, so that a query which does not ask for it never touches the versions.

create function tocsin.url_segment(text) returns text
    language sql immutable strict parallel safe
    return case
        when $1 ~ '^[A-Za-z0-9._~-]*$' then $1
        else (
            select string_agg(
                case
                    when byte between 48 and 57 or byte between 65 and 90 or byte between 97 and 122 or byte in (45, 46, 95, 126) then chr(byte)
                    else '%' || upper(lpad(to_hex(byte), 2, '0'))
                end, '' order by at)
            from (select at, get_byte(convert_to($1, 'UTF8'), at) as byte from generate_series(0, octet_length(convert_to($1, 'UTF8')) - 1) as at) as bytes
        )
    end;
comment on function tocsin.url_segment is 'percent-encodes a text for one segment of a URL path';

create view dash.alert with (security_barrier) as
select
    a.tenant as directory_id,
    t.name as tenant,
    a.alert_id,
    a.incident_id,
    a.title,
    a.severity,
    a.status,
    a.service_source,
    a.detection_source,
    a.category,
    a.created_at,
    a.last_updated_at,
    a.first_stored_at,
    a.last_stored_at,
    a.version_count,
    case when t.portal_url <> '' then t.portal_url || '/alerts/' || tocsin.url_segment(a.alert_id) || '?tid=' || a.tenant::text end as portal_url,
    (
        select v.raw::json
        from tocsin.alert_version v
        where v.tenant = a.tenant and v.source = a.source and v.alert_id = a.alert_id and v.hash = a.hash and v.created_at = a.version_created_at
    ) as raw
from tocsin.alert a
join tocsin.tenant t using (tenant);
comment on view dash.alert is 'one row per tenant and alert: the latest state, whichever source delivered it';

create view dash.alert_version with (security_barrier) as
select
    v.tenant as directory_id,
    v.source,
    v.alert_id,
    v.version,
    v.last_update_text,
    v.stored_at,
    v.raw::json as raw
from tocsin.alert_version v;
comment on view dash.alert_version is 'one row per distinct version of an alert ever seen at a source';

create view dash.tenant_health with (security_barrier) as
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
        when 'awaiting-consent' then 'have the customer consent, then import its refresh token with: tocsin tenant import'
        when 'paused' then 'when it shall be read again, type: tocsin tenant resume ' || t.tenant::text
        when 'active' then coalesce(fault.action, worst.action)
    end as action,
    case when t.state = 'active' then case when fault.app is not null then fault.error_code else worst.error_code end end as error_code,
    t.token_expires_at,
    t.last_refresh_at
from tocsin.tenant t
left join tocsin.app_fault fault on fault.app = t.app and fault.cloud = t.cloud
left join lateral (
    select *
    from tocsin.trouble x
    where x.tenant = t.tenant and x.shown_from <= now() and (x.origin = 'sign-in' or x.origin = any (t.sources))
    order by case x.verdict when 'needs-consent' then 0 when 'needs-customer' then 1 else 2 end, x.since
    limit 1
) worst on true;
comment on view dash.tenant_health is 'one row per tenant: can we see it, since when, and if not, why and who must do what';

create view dash.feed_health with (security_barrier) as
select
    t.tenant as directory_id,
    s.source,
    f.last_success_at,
    f.last_attempt_at,
    f.last_error,
    tocsin.ticks_to_timestamptz(f.watermark_ticks) as watermark,
    greatest(0, extract(epoch from now() - tocsin.ticks_to_timestamptz(greatest(f.caught_up_ticks, f.watermark_ticks))))::double precision as lag_seconds,
    case when f.throttled_until > now() then f.throttled_until end as throttled_until,
    coalesce(f.quarantined, 0) as quarantined
from tocsin.tenant t
cross join lateral unnest(t.sources) as s(source)
left join tocsin.feed f on f.tenant = t.tenant and f.source = s.source
where t.state <> 'removed';
comment on view dash.feed_health is 'one row per tenant and source; lag_seconds is how old the newest instant is up to which everything is stored, null before the first poll';

create view dash.gap with (security_barrier) as
select
    g.tenant as directory_id,
    g.source,
    tocsin.ticks_to_timestamptz(g.from_ticks) as from_at,
    tocsin.ticks_to_timestamptz(g.to_ticks) as to_at,
    g.reason,
    g.healed_at
from tocsin.gap g;
comment on view dash.gap is 'what could not be read, and why';

create view dash.quarantine with (security_barrier) as
select q.tenant as directory_id, q.source, q.seen_at, q.reason, q.raw_bytes
from tocsin.quarantine q;
comment on view dash.quarantine is 'records that could not be understood, kept raw';
