-- Reading again, incidents, observed changes, and what a comparison of source and store came to.

alter table tocsin.alert
    add column assigned_to text,
    add column classification text,
    add column determination text,
    add column replaced text[];
comment on column tocsin.alert.replaced is
    'status, assigned_to, classification, determination and severity of the state that this one has replaced: the events of the same transaction are made from it';

create table tocsin.alert_event (
    tenant     uuid not null,
    alert_id   text not null,
    seen_at    timestamptz not null default clock_timestamp(),
    field      text not null check (field in ('status', 'assigned_to', 'classification', 'determination', 'severity')),
    old_value  text,
    new_value  text,
    changed_at timestamptz,
    source     text not null,
    primary key (tenant, alert_id, seen_at, field)
);
comment on table tocsin.alert_event is 'observed changes of what people decide about an alert, never changed or deleted by the daemon: the base of time-to-acknowledge';
comment on column tocsin.alert_event.changed_at is 'the source''s last-update stamp of the version that showed the change, if it has a usable one';
create index alert_event_by_time on tocsin.alert_event (seen_at desc);

create table tocsin.incident (
    tenant               uuid not null,
    incident_id          text not null,
    hash                 bytea not null,
    last_update_ticks    bigint not null default -9223372036854775808,
    title                text,
    severity             text,
    status               text,
    redirect_incident_id text,
    created_at           timestamptz,
    last_updated_at      timestamptz,
    first_stored_at      timestamptz not null default now(),
    last_stored_at       timestamptz not null default now(),
    raw                  text not null,
    primary key (tenant, incident_id)
);
comment on table tocsin.incident is 'latest state of each incident, with the body as received; an older one never overwrites a newer';
create index incident_by_update on tocsin.incident (tenant, last_updated_at desc) where last_updated_at is not null;
do $$
begin
    alter table tocsin.incident alter column raw set compression lz4;
exception when feature_not_supported then
    null; -- 0002 has warned already
end $$;

create table tocsin.incident_redirect (
    tenant      uuid not null,
    incident_id text not null,
    final_id    text not null,
    primary key (tenant, incident_id)
);
comment on table tocsin.incident_redirect is 'where a merged incident leads in the end, chains followed; alerts are linked through it, so that a link follows merges';
create index incident_redirect_by_end on tocsin.incident_redirect (tenant, final_id);

create table tocsin.reread (
    tenant              uuid not null references tocsin.tenant,
    source              text not null,
    errand              text not null check (errand in ('backfill', 'short', 'long', 'nightly', 'reconcile', 'replay')),
    run                 bigint not null default 1,
    axis                text not null default 'update' check (axis in ('update', 'creation')),
    from_ticks          bigint not null,
    to_ticks            bigint not null check (to_ticks >= from_ticks),
    left_ticks          bigint not null,
    polled_before_ticks bigint not null,
    asked_at            timestamptz,
    started_at          timestamptz,
    moved_at            timestamptz,
    finished_at         timestamptz,
    cancelled_at        timestamptz,
    records             bigint not null default 0,
    new_alerts          bigint not null default 0,
    updated_alerts      bigint not null default 0,
    late                bigint not null default 0,
    missing_ids         text[] not null default '{}',
    changed_ids         text[] not null default '{}',
    primary key (tenant, source, errand)
);
comment on table tocsin.reread is 'stretches of a feed that are read again: backfill, ladder, comparison, replay; the latest of each kind';
comment on column tocsin.reread.run is 'counts the re-reads of a kind: what belongs to an earlier or cancelled one is void';
comment on column tocsin.reread.left_ticks is 'what is left to read on this axis is [from_ticks, left_ticks): newest first';
comment on column tocsin.reread.missing_ids is 'the first hundred ids that were not stored';
comment on column tocsin.reread.changed_ids is 'the first hundred ids of which a version was not stored';
create index reread_asked_for on tocsin.reread (tenant) where asked_at is not null and finished_at is null;

create table tocsin.reconciliation (
    tenant            uuid not null references tocsin.tenant,
    source            text not null,
    finished_at       timestamptz not null default clock_timestamp(),
    started_at        timestamptz,
    asked_by          text not null check (asked_by in ('nightly', 'operator')),
    run               bigint not null,
    from_ticks        bigint not null,
    to_ticks          bigint not null,
    at_source         bigint not null,
    stored            bigint not null,
    missing           bigint not null,
    changed           bigint not null,
    only_stored       bigint not null,
    missing_ids       text[] not null default '{}',
    changed_ids       text[] not null default '{}',
    only_stored_ids   text[] not null default '{}',
    primary key (tenant, source, finished_at)
);
comment on table tocsin.reconciliation is 'what each comparison of source and store came to; what was missing or changed is stored by the time the row is written';
create index reconciliation_by_time on tocsin.reconciliation (finished_at desc);

alter table tocsin.gap add column kind text not null default 'ties' check (kind in ('ties', 'too-large', 'failing', 'expired'));
alter table tocsin.gap add column axis text not null default 'update' check (axis in ('update', 'creation'));
comment on column tocsin.gap.axis is 'which stamp the stretch is about: reading it again by the other one does not heal it';
comment on column tocsin.gap.kind is 'an expired gap never heals by itself: Microsoft no longer has what lies in it';

alter table tocsin.quarantine
    add column replay_at timestamptz,
    add column tried_at timestamptz,
    add column replayed_at timestamptz;
comment on column tocsin.quarantine.replay_at is 'an operator wants it tried again';
comment on column tocsin.quarantine.tried_at is 'when it was last tried again';
comment on column tocsin.quarantine.replayed_at is 'it was understood when it was tried again, and is stored as an alert now';

-- The read side. What was there keeps its names and its order; new columns come at the end.

create or replace view dash.alert with (security_barrier) as
select
    a.tenant as directory_id,
    t.name as tenant,
    a.alert_id,
    coalesce(r.final_id, a.incident_id) as incident_id,
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
    ) as raw,
    a.assigned_to,
    a.classification,
    a.determination
from tocsin.alert a
join tocsin.tenant t using (tenant)
left join tocsin.incident_redirect r on r.tenant = a.tenant and r.incident_id = a.incident_id;

create view dash.incident with (security_barrier) as
select
    i.tenant as directory_id,
    i.incident_id,
    i.title,
    i.severity,
    i.status,
    i.redirect_incident_id,
    i.last_updated_at,
    case when t.portal_url <> '' then t.portal_url || '/incidents/' || tocsin.url_segment(i.incident_id) || '?tid=' || i.tenant::text end as portal_url,
    i.raw::json as raw,
    t.name as tenant,
    i.created_at,
    i.first_stored_at,
    i.last_stored_at
from tocsin.incident i
join tocsin.tenant t using (tenant);
comment on view dash.incident is 'one row per tenant and incident: the latest state; redirect_incident_id names the incident it was merged into';

create view dash.alert_event with (security_barrier) as
select
    e.tenant as directory_id,
    e.alert_id,
    e.field,
    e.old_value,
    e.new_value,
    e.changed_at,
    e.seen_at,
    e.source
from tocsin.alert_event e;
comment on view dash.alert_event is 'every observed change of status, assignee, classification, determination and severity';

create view dash.reconciliation with (security_barrier) as
select
    c.tenant as directory_id,
    c.source,
    c.asked_by,
    c.started_at,
    c.finished_at,
    tocsin.ticks_to_timestamptz(c.from_ticks) as from_at,
    tocsin.ticks_to_timestamptz(c.to_ticks) as to_at,
    c.at_source,
    c.stored,
    c.missing,
    c.changed,
    c.only_stored,
    c.missing_ids,
    c.changed_ids,
    c.only_stored_ids
from tocsin.reconciliation c;
comment on view dash.reconciliation is 'comparisons of source and store: missing and changed were repaired on the spot and should be 0; only_stored is what the source no longer shows';

create view dash.reread with (security_barrier) as
select
    r.tenant as directory_id,
    r.source,
    r.errand,
    case
        when r.cancelled_at is not null then 'cancelled'
        when r.finished_at is not null then 'finished'
        when r.started_at is null then 'waiting'
        else 'running'
    end as state,
    tocsin.ticks_to_timestamptz(r.from_ticks) as from_at,
    tocsin.ticks_to_timestamptz(r.to_ticks) as to_at,
    case
        when r.finished_at is not null and r.cancelled_at is null then 1.0
        when r.to_ticks = r.from_ticks then 0.0
        -- Nearly all records come with the first pass, the one by update.
        when r.axis = 'update' then 0.9 * (r.to_ticks - r.left_ticks)::double precision / (r.to_ticks - r.from_ticks)
        else 0.9 + 0.1 * (r.to_ticks - r.left_ticks)::double precision / (r.to_ticks - r.from_ticks)
    end as done,
    r.records,
    r.new_alerts,
    r.updated_alerts,
    r.late,
    r.started_at,
    r.moved_at,
    r.finished_at
from tocsin.reread r
join tocsin.tenant t using (tenant)
where t.state <> 'removed';
comment on view dash.reread is 'backfill, ladder and comparisons: how far each has come; done goes from 0 to 1';

create or replace view dash.quarantine with (security_barrier) as
select q.tenant as directory_id, q.source, q.seen_at, q.reason, q.raw_bytes
from tocsin.quarantine q
where q.replayed_at is null;

create or replace view dash.feed_health with (security_barrier) as
select
    t.tenant as directory_id,
    s.source,
    f.last_success_at,
    f.last_attempt_at,
    f.last_error,
    tocsin.ticks_to_timestamptz(f.watermark_ticks) as watermark,
    greatest(0, extract(epoch from now() - tocsin.ticks_to_timestamptz(greatest(f.caught_up_ticks, f.watermark_ticks))))::double precision as lag_seconds,
    case when f.throttled_until > now() then f.throttled_until end as throttled_until,
    coalesce(f.quarantined, 0) as quarantined,
    f.read_order
from tocsin.tenant t
cross join lateral unnest(t.sources) as s(source)
left join tocsin.feed f on f.tenant = t.tenant and f.source = s.source
where t.state <> 'removed';
