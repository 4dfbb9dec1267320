-- What is derived from stored alerts after their commit: evidence, techniques, roll-ups, findings.
--
-- One worker per held tenant derives (crate `digester`). It finds what changed by the transaction that wrote it: a transaction
-- may commit long after a later one, so neither a timestamp nor a sequence says what is new, but below the oldest running
-- transaction nothing more can appear. All of it can be thrown away and derived again: select tocsin.forget_derived().

-- No rewrite: the number of this very transaction stands for all rows that are there.
alter table tocsin.alert add column changed_xid xid8 not null default pg_current_xact_id();
comment on column tocsin.alert.changed_xid is 'the transaction that last wrote this row; what lies below the oldest running one is settled';
-- The condition always holds, but only who asks by transaction says so: on a table without statistics the planner would take
-- this index for a look-up by key, and read all alerts of the tenant.
create index alert_by_change on tocsin.alert (tenant, changed_xid) where changed_xid is not null;

alter table tocsin.feed add column begun_at timestamptz not null default now();
comment on column tocsin.feed.begun_at is 'when this source was first tried; what was visible before says nothing of how late we are';

create table tocsin.derivation (
    tenant    uuid primary key references tocsin.tenant,
    upto      xid8 not null,
    swept_to  text,
    system_id bigint not null,
    version   int not null,
    begun_at  timestamptz not null default now()
);
comment on table tocsin.derivation is 'how far the derivation of each tenant has come; whoever moves it holds its row';
comment on column tocsin.derivation.upto is 'all that transactions before this one wrote is derived, once the sweep is over';
comment on column tocsin.derivation.swept_to is 'a sweep over all alerts by id has come to here; null when it is over';
comment on column tocsin.derivation.system_id is 'the server whose transactions upto counts; on another one the sweep begins anew';
comment on column tocsin.derivation.version is 'of the code that derived; another one begins anew';

create table tocsin.digested (
    tenant         uuid not null,
    alert_id       text not null,
    changed_xid    xid8 not null,
    created_at     timestamptz not null,
    title          text not null,
    severity       text not null,
    status         text not null,
    service_source text not null,
    classification text not null,
    techniques     text[] not null,
    measured       jsonb not null,
    skipped        text,
    primary key (tenant, alert_id)
);
comment on table tocsin.digested is 'what each alert was counted as, so that an update moves it from one count to another';
comment on column tocsin.digested.measured is 'the highest version of each source whose lateness was counted';
comment on column tocsin.digested.skipped is 'why nothing could be read from its body, in words';
create index digested_skipped on tocsin.digested (tenant) where skipped is not null;

create table tocsin.evidence (
    tenant     uuid not null,
    alert_id   text not null,
    kind       text not null,
    value      text not null,
    role       text,
    verdict    text,
    created_at timestamptz not null,
    primary key (tenant, alert_id, kind, value)
);
comment on table tocsin.evidence is 'what alerts name: devices, users, addresses and so on; one row per alert and thing';
create index evidence_by_value on tocsin.evidence (kind, value);
create index evidence_by_time on tocsin.evidence (kind, created_at) include (tenant, value);

create table tocsin.finding (
    tenant   uuid not null,
    alert_id text not null,
    finding  json not null,
    primary key (tenant, alert_id)
);
comment on table tocsin.finding is 'each alert as an OCSF event, made by the daemon: no SQL reads a body';
do $$
begin
    alter table tocsin.finding alter column finding set compression lz4;
exception when feature_not_supported then
    null; -- 0002 has warned already
end $$;

-- The roll-ups. A text that the source left out is '' here, since a key holds no null.
create table tocsin.technique_day (
    tenant    uuid not null,
    day       date not null,
    technique text not null,
    alerts    bigint not null,
    primary key (tenant, day, technique)
);
create index technique_day_by_day on tocsin.technique_day (day);
comment on table tocsin.technique_day is 'alerts by day of creation (UTC) and technique';

create table tocsin.alert_day (
    tenant         uuid not null,
    day            date not null,
    severity       text not null,
    status         text not null,
    service_source text not null,
    alerts         bigint not null,
    primary key (tenant, day, severity, status, service_source)
);
create index alert_day_by_day on tocsin.alert_day (day);
comment on table tocsin.alert_day is 'alerts by day of creation (UTC)';

create table tocsin.detection_day (
    tenant          uuid not null,
    day             date not null,
    title           text not null,
    severity        text not null,
    service_source  text not null,
    alerts          bigint not null,
    true_positives  bigint not null,
    false_positives bigint not null,
    resolved        bigint not null,
    primary key (tenant, day, title, severity, service_source)
);
create index detection_day_by_day on tocsin.detection_day (day);
comment on table tocsin.detection_day is 'alerts by day of creation (UTC) and headline, of which the first 300 characters count';

-- About all customers together. Replicas that derive different tenants meet in these rows, so each hour has sixteen of
-- them, by tenant: they seldom wait for each other, and a dashboard adds up sixteen times as few rows as there are tenants.
create table tocsin.alert_hour (
    hour     timestamptz not null,
    severity text not null,
    shard    smallint not null,
    alerts   bigint not null,
    primary key (hour, severity, shard)
);
comment on table tocsin.alert_hour is 'alerts of all tenants by hour of creation';

create table tocsin.ingest_hour (
    hour       timestamptz not null,
    le_seconds double precision not null,
    shard      smallint not null,
    versions   bigint not null,
    primary key (hour, le_seconds, shard)
);
comment on table tocsin.ingest_hour is
    'versions by the hour in which they were stored and by how long they were visible at the source before: so many within le_seconds and not within the bound below. What was measured stays when a customer goes';

create function tocsin.shard_of(tenant uuid) returns smallint
    language sql immutable strict parallel safe
    return (get_byte(uuid_send(tenant), 15) % 16)::smallint;
comment on function tocsin.shard_of is 'which of sixteen rows a tenant is counted in, where all tenants are counted together';

create function tocsin.forget_derived() returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- In this order: whoever derives holds its row of the first table before it touches another.
    truncate tocsin.derivation, tocsin.digested, tocsin.evidence, tocsin.finding, tocsin.technique_day, tocsin.alert_day,
        tocsin.detection_day, tocsin.alert_hour, tocsin.ingest_hour;
end $$;
comment on function tocsin.forget_derived is 'throws away all that is derived; running daemons derive it again from what is stored';

select tocsin.guard(name::regclass)
from unnest(array[
    'tocsin.derivation', 'tocsin.digested', 'tocsin.evidence', 'tocsin.finding', 'tocsin.technique_day', 'tocsin.alert_day', 'tocsin.detection_day'
]) as name;
select tocsin.guard_whole(name::regclass) from unnest(array['tocsin.alert_hour', 'tocsin.ingest_hour']) as name;

-- A customer who goes takes what was derived from its alerts along, and out of the counts of all.
create or replace function tocsin.erase_some(gone uuid, at_most bigint) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    part regclass;
    name text;
    room bigint := at_most;
    deleted bigint;
begin
    -- Only what an operator has asked for, however much the caller may. The state alone is no proof: the caller may
    -- write it. The audit log only grows, so whoever claims a removal there leaves that claim to be found.
    perform from tocsin.tenant where tenant = gone and state = 'offboarding';
    if not found then
        raise exception 'tenant % is not being erased', gone using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform from (
        select action, details from tocsin.audit
        where tenant = gone
            and action in ('tenant.add', 'tenant.update', 'tenant.revive', 'tenant.connected', 'tenant.pause', 'tenant.resume', 'tenant.remove', 'tenant.erased')
        order by seq desc limit 1
    ) newest
    where newest.action = 'tenant.remove' and newest.details::json ->> 'alerts' = 'delete';
    if not found then
        raise exception 'tenant % is not being erased: the last that was done to it, by the audit log, is not its removal with its alerts', gone
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into tocsin.erasure (tenant) values (gone) on conflict (tenant) do nothing;
    for part in select inhrelid::regclass from pg_inherits where inhparent = 'tocsin.alert_version'::regclass loop
        exit when room <= 0;
        execute format('delete from %1$s where ctid = any (array(select ctid from %1$s where tenant = $1 limit $2))', part) using gone, room;
        get diagnostics deleted = row_count;
        update tocsin.erasure set versions = versions + deleted where tenant = gone and deleted > 0;
        room := room - deleted;
    end loop;
    foreach name in array array[
        'alert', 'incident', 'alert_event', 'incident_redirect', 'reread', 'reconciliation', 'gap', 'quarantine', 'feed'
    ] loop
        exit when room <= 0;
        execute format('delete from tocsin.%1$I where ctid = any (array(select ctid from tocsin.%1$I where tenant = $1 limit $2))', name) using gone, room;
        get diagnostics deleted = row_count;
        update tocsin.erasure
        set alerts = alerts + case name when 'alert' then deleted else 0 end,
            incidents = incidents + case name when 'incident' then deleted else 0 end,
            others = others + case when name in ('alert', 'incident') then 0 else deleted end
        where tenant = gone and deleted > 0;
        room := room - deleted;
    end loop;
    -- What is derived is deleted as well and not told: it was never received.
    if room > 0 then
        with uncounted as (
            delete from tocsin.digested
            where ctid = any (array(select ctid from tocsin.digested where tenant = gone limit room))
            returning created_at, severity
        ), taken as (
            insert into tocsin.alert_hour as h (hour, severity, shard, alerts)
            select date_trunc('hour', created_at, 'UTC'), severity, tocsin.shard_of(gone), -count(*) from uncounted group by 1, 2 order by 1, 2
            on conflict (hour, severity, shard) do update set alerts = h.alerts + excluded.alerts
        )
        select count(*) into deleted from uncounted;
        room := room - deleted;
    end if;
    foreach name in array array['evidence', 'finding', 'technique_day', 'alert_day', 'detection_day', 'derivation'] loop
        exit when room <= 0;
        execute format('delete from tocsin.%1$I where ctid = any (array(select ctid from tocsin.%1$I where tenant = $1 limit $2))', name) using gone, room;
        get diagnostics deleted = row_count;
        room := room - deleted;
    end loop;
    return at_most - room;
end $$;

-- The read side.

create view dash.evidence with (security_barrier) as
select e.tenant as directory_id, t.name as tenant, e.alert_id, e.kind, e.value, e.role, e.verdict, e.created_at
from tocsin.evidence e
join tocsin.tenant t using (tenant);
comment on view dash.evidence is 'what alerts name, one row per alert and thing, as its latest body says';
comment on column dash.evidence.kind is 'device, user, ip, file-hash, url, mailbox or process; more may come';
comment on column dash.evidence.value is 'its name: DNS name, user principal name, address, SHA-256 or SHA-1 in small letters, and so on';
comment on column dash.evidence.role is 'what it did, in Microsoft''s words, several separated by commas';
comment on column dash.evidence.verdict is 'malicious, suspicious, noThreatsFound, unknown; the worst where an alert names the thing several times';
comment on column dash.evidence.created_at is 'when the alert was created; when it was first stored, where it does not say';

create view dash.technique_day with (security_barrier) as
select d.tenant as directory_id, t.name as tenant, d.day, d.technique, d.alerts
from tocsin.technique_day d
join tocsin.tenant t using (tenant)
where d.alerts > 0;
comment on view dash.technique_day is 'alerts by day of creation (UTC) and MITRE technique; an alert counts once for each of its techniques';

create view dash.alert_day with (security_barrier) as
select
    d.tenant as directory_id,
    t.name as tenant,
    d.day,
    nullif(d.severity, '') as severity,
    nullif(d.status, '') as status,
    nullif(d.service_source, '') as service_source,
    d.alerts
from tocsin.alert_day d
join tocsin.tenant t using (tenant)
where d.alerts > 0;
comment on view dash.alert_day is 'alerts by day of creation (UTC), severity, status and product, as their latest states say';

create view dash.detection_day with (security_barrier) as
select
    d.tenant as directory_id,
    t.name as tenant,
    d.day,
    nullif(d.title, '') as title,
    nullif(d.severity, '') as severity,
    nullif(d.service_source, '') as service_source,
    d.alerts,
    d.true_positives,
    d.false_positives,
    d.resolved
from tocsin.detection_day d
join tocsin.tenant t using (tenant)
where d.alerts > 0;
comment on view dash.detection_day is 'alerts by day of creation (UTC) and headline, and what people made of them';
comment on column dash.detection_day.title is 'the first 300 characters of the headline';

create view dash.alert_hour with (security_barrier) as
select h.hour, nullif(h.severity, '') as severity, sum(h.alerts)::bigint as alerts
from tocsin.alert_hour h
group by h.hour, h.severity
having sum(h.alerts) > 0;
comment on view dash.alert_hour is 'alerts of all tenants by hour of creation; only who sees every tenant sees any';

create view dash.ingest_hour with (security_barrier) as
select
    hours.hour,
    le.le_seconds,
    coalesce(sum(counted.versions) over (partition by hours.hour order by le.le_seconds), 0)::bigint as versions
from (select distinct i.hour from tocsin.ingest_hour i where i.versions <> 0) hours
cross join unnest(array[1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, 900, 3600, 14400, 86400, 'infinity']::double precision[]) as le(le_seconds)
left join (
    select i.hour, i.le_seconds, sum(i.versions) as versions from tocsin.ingest_hour i group by i.hour, i.le_seconds
) counted on counted.hour = hours.hour and counted.le_seconds = le.le_seconds;
comment on view dash.ingest_hour is
    'how late versions were stored, from visible at the source, by the hour in which they were stored: a histogram with the bounds of tocsin_ingest_lag_seconds, each counting those below it too; only who sees every tenant sees any. What was visible before a source was first tried is not in it';

create view dash.digest_health with (security_barrier) as
select
    t.tenant as directory_id,
    t.name as tenant,
    case when d.tenant is null or d.swept_to is not null then null else coalesce(w.oldest, now()) end as derived_until,
    case
        when d.swept_to is not null then extract(epoch from now() - d.begun_at)
        else coalesce(greatest(0, extract(epoch from now() - w.oldest)), 0)
    end::double precision as lag_seconds,
    coalesce(w.waiting, 0) as waiting,
    case when d.tenant is null then 'not begun' when d.swept_to is not null then 'rebuilding' when w.waiting > 0 then 'behind' else 'current' end as state,
    coalesce(s.skipped, 0) as skipped,
    s.reason as skipped_reason
from tocsin.tenant t
left join tocsin.derivation d using (tenant)
left join lateral (
    select count(*) as waiting, min(a.last_stored_at) as oldest
    from tocsin.alert a
    -- A case, and no coalesce: of that Postgres does not know that it tells nothing, and would apply it after row security only.
    where a.tenant = t.tenant and d.swept_to is null and a.changed_xid >= case when d.upto is null then '0' else d.upto end
        -- What another server has stamped ahead of this one's transactions does not wait.
        and a.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
        and not exists (select from tocsin.digested g where g.tenant = a.tenant and g.alert_id = a.alert_id and g.changed_xid = a.changed_xid)
    union all
    select count(*), null from tocsin.alert a where a.tenant = t.tenant and a.alert_id > d.swept_to
    order by 1 desc
    limit 1
) w on true
left join lateral (
    select count(*) as skipped, min(g.skipped) as reason from tocsin.digested g where g.tenant = t.tenant and g.skipped is not null
) s on true
where t.state <> 'removed' or w.waiting > 0;
comment on view dash.digest_health is 'how far what is derived (evidence, roll-ups, findings) has come behind what is stored, per tenant';
comment on column dash.digest_health.derived_until is 'all that was stored before is derived; null while all of it is derived anew';
comment on column dash.digest_health.lag_seconds is 'how long the oldest change waits; while all is derived anew, for how long that goes on';
comment on column dash.digest_health.waiting is 'alerts whose latest state is not derived yet';
comment on column dash.digest_health.state is 'current, behind, rebuilding or not begun';
comment on column dash.digest_health.skipped is 'alerts whose body could not be read: they are counted by their columns, and have no evidence';
comment on column dash.digest_health.skipped_reason is 'why, of one of them';

create view dash.ocsf_finding with (security_barrier) as
select
    f.tenant as directory_id,
    t.name as tenant,
    f.alert_id,
    g.created_at,
    2004 as class_uid,
    f.finding
from tocsin.finding f
join tocsin.digested g using (tenant, alert_id)
join tocsin.tenant t using (tenant);
comment on view dash.ocsf_finding is 'each alert''s latest state as an OCSF event of class Detection Finding (2004)';
comment on column dash.ocsf_finding.finding is 'the event; metadata.version in it says which version of OCSF';
