-- A database with :alerts alerts of :tenants customers over 90 days, as months of reading would leave it: a few customers have
-- most, a few detections are most, what is old is mostly closed. Names are what attackers and customers may call themselves.
-- What is derived is counted here by SQL of its own, since no worker runs beside.

select setseed(0.42);

create function pg_temp.tenant_id(n int) returns uuid language sql immutable return md5('tenant ' || n)::uuid;

insert into tocsin.tenant (tenant, name, cloud, app, sources, state, portal_url, last_refresh_at, token_expires_at)
select
    pg_temp.tenant_id(n),
    case n
        when 1 then 'O''Brien & Söhne "Ltd"'
        when 2 then '<script>document.title = "taken"</script>'
        when 3 then E'\u202Egnp.exe שלום'
        else 'Customer ' || lpad(n::text, 3, '0')
    end,
    'global', 'main', array['graph-alerts', 'mde-alerts'],
    case when n % 40 = 9 then 'awaiting-consent' when n % 40 = 10 then 'paused' else 'active' end,
    'https://security.microsoft.com',
    now() - interval '3 minutes',
    case when n % 40 <> 9 then now() + (n % 95 - 4) * interval '1 day' end
from generate_series(1, :tenants) n;

insert into tocsin.feed (tenant, source, watermark_ticks, caught_up_ticks, last_attempt_at, last_success_at, last_error, throttled_until, quarantined)
select
    tenant, source, stamp.ticks, stamp.ticks, now() - interval '5 seconds',
    now() - age.of, case when age.of > interval '1 hour' then 'Graph answered 403 Forbidden' end,
    case when n % 11 = 3 then now() + interval '1 hour' end,
    case when n % 7 = 2 then 3 else 0 end
from (select tenant, source, row_number() over (order by tenant, source) as n from tocsin.tenant, unnest(sources) as source where state <> 'awaiting-consent') f
cross join lateral (select case when n % 23 = 5 then interval '5 hours' else (n % 40 + 3) * interval '1 second' end as of) age
cross join lateral (select (extract(epoch from now() - age.of) * 10000000)::bigint as ticks) stamp;

insert into tocsin.trouble (tenant, origin, verdict, since, reason, action, error_code, trace_id)
select pg_temp.tenant_id(n), 'sign-in', case when n % 2 = 0 then 'needs-consent' else 'needs-customer' end, now() - interval '2 days',
    'the refresh token is no longer accepted (AADSTS70043)', 'the customer''s administrator: consent through a new link, made with: tocsin tenant invite {tenant}',
    'AADSTS70043', md5(n::text)
from generate_series(5, :tenants, 9) n where n % 40 not in (9, 10);

insert into tocsin.tenant_access (tenant, expires_at) select pg_temp.tenant_id(n), now() + n * interval '3 days' from generate_series(4, least(:tenants, 30)) n;
insert into tocsin.partial_sight (tenant, compared, missing, newest_at) values (pg_temp.tenant_id(4), 120, 31, now() - interval '1 hour');

create temporary table wanted as
select
    n,
    pg_temp.tenant_id(1 + floor(:tenants * power(random(), 2.5))::int % :tenants) as tenant,
    now() - interval '10 minutes' - interval '90 days' * random() as created_at,
    1 + floor(60 * power(random(), 3))::int as detection,
    random() as a, random() as b, random() as c
from generate_series(1, :alerts) n;

insert into tocsin.alert (
    tenant, alert_id, source, source_rank, hash, version_created_at, last_update_ticks, title, severity, status, service_source, detection_source,
    category, created_at, last_updated_at, version_count, first_stored_at, last_stored_at, classification, assigned_to
)
select
    tenant, 'da' || md5(n::text), 'graph-alerts', 1, decode(md5(n::text), 'hex'), created_at, (extract(epoch from changed_at) * 10000000)::bigint,
    case detection
        when 1 then '<script>document.title = "taken"</script><img src=x onerror=alert(1)>'
        when 2 then E'\u202Etxt.exe \u2066הודעה\u2069 suspicious "file" & more'
        when 60 then repeat('A very long title. ', 500)
        else 'Suspicious activity of kind ' || detection
    end,
    -- A detection has a severity of its own, which one alert in ten does not share.
    case when a >= 0.98 then null else (array['high', 'medium', 'medium', 'low', 'low', 'low', 'informational', 'informational', 'informational', 'informational'])
        [1 + case when a < 0.1 then n else detection * 7 end % 10] end,
    status,
    (array['microsoftDefenderForEndpoint', 'microsoftDefenderForOffice365', 'microsoftDefenderForIdentity', 'azureAdIdentityProtection'])[1 + detection % 4],
    'antivirus', 'Malware', created_at, changed_at, case when status = 'new' then 1 else 2 end, created_at + interval '40 seconds', changed_at,
    case when status <> 'resolved' or c < 0.3 then null when detection % 5 = 1 or c < 0.5 then 'falsePositive' else 'truePositive' end,
    case when status <> 'new' then 'analyst' || n % 5 || '@mssp.example' end
from wanted
cross join lateral (select case when b < 0.8 * (1 - exp(extract(epoch from created_at - now()) / 86400)) then 'resolved' when b < 0.85 then 'new' else 'inProgress' end as status) s
cross join lateral (select least(now(), created_at + interval '40 seconds' + case when status = 'new' then interval '0' else interval '20 minutes' * exp(4 * c) end) as changed_at) t;

-- Taken up on the way, closed at the end, and one of 256 closed comes back and is closed again.
insert into tocsin.alert_event (tenant, alert_id, seen_at, field, old_value, new_value, changed_at, source)
select tenant, alert_id, e.at, e.field, e.old_value, e.new_value, e.at, source
from tocsin.alert
cross join lateral (
    select first_stored_at + (last_stored_at - first_stored_at) * 0.3 as at, 'assigned_to' as field, null as old_value, assigned_to as new_value where status <> 'new'
    union all select first_stored_at + (last_stored_at - first_stored_at) * 0.3, 'status', 'new', 'inProgress' where status <> 'new'
    union all select first_stored_at + (last_stored_at - first_stored_at) * 0.9, 'status', 'inProgress', 'resolved' where status = 'resolved'
    union all select first_stored_at + (last_stored_at - first_stored_at) * 0.95, 'status', 'resolved', 'inProgress' where status = 'resolved' and alert_id like 'da00%'
    union all select last_stored_at, 'status', 'inProgress', 'resolved' where status = 'resolved' and alert_id like 'da00%'
) e;

insert into tocsin.alert_day (tenant, day, severity, status, service_source, alerts)
select tenant, (created_at at time zone 'UTC')::date, coalesce(severity, ''), status, service_source, count(*) from tocsin.alert group by 1, 2, 3, 4, 5;
insert into tocsin.alert_hour (hour, severity, shard, alerts)
select date_trunc('hour', created_at, 'UTC'), coalesce(severity, ''), tocsin.shard_of(tenant), count(*) from tocsin.alert group by 1, 2, 3;
insert into tocsin.detection_day (tenant, day, title, severity, service_source, alerts, true_positives, false_positives, resolved)
select tenant, (created_at at time zone 'UTC')::date, left(title, 300), coalesce(severity, ''), service_source, count(*),
    count(*) filter (where classification = 'truePositive'), count(*) filter (where classification = 'falsePositive'), count(*) filter (where status = 'resolved')
from tocsin.alert group by 1, 2, 3, 4, 5;
insert into tocsin.technique_day (tenant, day, technique, alerts)
select tenant, (created_at at time zone 'UTC')::date, 'T' || 1000 + (abs(hashtext(title)) + 31 * k) % 40, count(*)
from tocsin.alert, generate_series(0, 1) k
group by 1, 2, 3;
insert into tocsin.evidence (tenant, alert_id, kind, value, role, verdict, created_at)
select
    a.tenant, a.alert_id, e.kind,
    case e.kind
        when 'device' then 'pc-' || abs(hashtext(a.alert_id)) % (1 + abs(hashtext(a.tenant::text)) % 900) || '.' || left(a.tenant::text, 4) || '.example'
        when 'user' then 'person' || abs(hashtext(a.alert_id || 'u')) % 300 || '@' || left(a.tenant::text, 4) || '.example'
        else '203.0.113.' || abs(hashtext(a.alert_id || 'i')) % 256
    end,
    null, null, a.created_at
from tocsin.alert a
cross join (values ('device'), ('user'), ('ip')) e(kind)
where e.kind <> 'ip' or a.alert_id like 'da1%';

-- How late versions were stored: of each limit only those above the one below.
insert into tocsin.ingest_hour (hour, le_seconds, shard, versions)
select h.hour, l.le, h.shard, round(h.versions * l.part)::bigint
from (select date_trunc('hour', first_stored_at, 'UTC') as hour, tocsin.shard_of(tenant) as shard, count(*) as versions from tocsin.alert group by 1, 2) h
cross join (values (5, 0.1), (20, 0.3), (30, 0.3), (60, 0.2), (300, 0.09), ('infinity'::double precision, 0.01)) l(le, part);
insert into tocsin.derivation (tenant, upto, system_id, version)
select tenant, (pg_current_xact_id()::text::bigint + 1)::text::xid8, 0, 1 from tocsin.tenant;

insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason, healed_at, kind)
select pg_temp.tenant_id(n), 'graph-alerts', stamp.ticks, stamp.ticks + 36000000000, 'Graph answered 504 Gateway Timeout twelve times',
    case when n % 2 = 0 then now() end, 'failing'
from generate_series(4, 8) n, lateral (select (extract(epoch from now() - n * interval '40 minutes') * 10000000)::bigint as ticks) stamp;
insert into tocsin.quarantine (tenant, source, hash, reason, raw_bytes)
select pg_temp.tenant_id(n % 6 + 1), 'mde-alerts', decode(md5(n::text), 'hex'), 'no id', '{}'::bytea from generate_series(1, 9) n;
insert into tocsin.reconciliation (tenant, source, finished_at, started_at, asked_by, run, from_ticks, to_ticks, at_source, stored, missing, changed, only_stored)
select pg_temp.tenant_id(n % 6 + 1), 'graph-alerts', now() - n * interval '30 minutes', now() - n * interval '31 minutes', 'nightly', n, 0, 1, 500, 498, n % 3, 0, 0
from generate_series(1, 60) n;
insert into tocsin.reread (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks, asked_at, started_at, moved_at, records)
select pg_temp.tenant_id(n), 'graph-alerts', 'backfill', 0, 1000, 1000 - 130 * n, 0, now(), now(), now(), 100 * n from generate_series(4, 7) n;

drop table wanted;
analyze;
