-- :alerts alerts of the customers that are there, created over the last year, as a daemon that has read and derived them leaves
-- them. What no page looks at again is left out, so that ten million need little room: a body is one short member, and there is
-- no evidence and no finding. Feeds are left out as well: a daemon begins them anew.

select tocsin.ensure_version_partition(month) from generate_series(now() - interval '1 year', now(), interval '1 month') month;

-- Ids of two shapes, as Microsoft has them: one grows with time, one does not. All of it is older than what is counted.
insert into tocsin.alert (
    tenant, alert_id, source, source_rank, hash, version_created_at, last_update_ticks, title, severity, status, service_source, detection_source,
    category, created_at, last_updated_at, first_stored_at, last_stored_at
)
select
    t.tenant, case when n / t.tenants % 2 = 0 then 'da' || 621355968000000000 + ticks || '_-' || n else 'fa' || word::uuid end, 'graph-alerts', 1,
    decode(word || md5(word), 'hex'), created_at, ticks, 'Suspicious activity of kind ' || n % 60,
    (array['high', 'medium', 'low', 'informational'])[1 + n % 4], (array['new', 'inProgress', 'resolved'])[1 + n % 3],
    'microsoftDefenderForEndpoint', 'antivirus', 'Malware', created_at, created_at, created_at + interval '40 seconds', created_at + interval '40 seconds'
from (select tenant, row_number() over (order by tenant) - 1 as place, count(*) over () as tenants from tocsin.tenant) t
cross join lateral generate_series(t.place, :alerts - 1, t.tenants) n
cross join lateral (select md5(n::text) as word, now() - interval '3 days' - interval '1 second' * floor(362 * 86400 * (1 - n::float8 / :alerts)) as created_at) a
cross join lateral (select (extract(epoch from created_at) * 10000000)::bigint as ticks) s;

insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, last_update_text, stored_at, raw)
select
    tenant, source, alert_id, hash, created_at, 1, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), last_stored_at,
    json_build_object('id', alert_id)
from tocsin.alert;

insert into tocsin.digested (tenant, alert_id, changed_xid, created_at, title, severity, status, service_source, classification, techniques, measured)
select tenant, alert_id, changed_xid, created_at, title, severity, status, service_source, '', '{}', '{"graph-alerts": 1}' from tocsin.alert;
insert into tocsin.alert_day (tenant, day, severity, status, service_source, alerts)
select tenant, (created_at at time zone 'UTC')::date, severity, status, service_source, count(*) from tocsin.digested group by 1, 2, 3, 4, 5;
insert into tocsin.alert_hour (hour, severity, shard, alerts)
select date_trunc('hour', created_at, 'UTC'), severity, tocsin.shard_of(tenant), count(*) from tocsin.digested group by 1, 2, 3;
insert into tocsin.detection_day (tenant, day, title, severity, service_source, alerts, true_positives, false_positives, resolved)
select tenant, (created_at at time zone 'UTC')::date, title, severity, service_source, count(*), 0, 0, count(*) filter (where status = 'resolved')
from tocsin.digested group by 1, 2, 3, 4, 5;

-- All of it is derived, by this server and by a digester of this version.
insert into tocsin.derivation (tenant, upto, system_id, version, begun_at)
select tenant, (pg_current_xact_id()::text::bigint + 1)::text::xid8, system_identifier, 1, now() - interval '3 days' from tocsin.tenant, pg_control_system();
