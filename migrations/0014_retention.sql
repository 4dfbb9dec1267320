-- What is kept for how long. Versions go by whole months, never row by row.

create table tocsin.retention (
    one         boolean primary key default true check (one),
    versions    interval check (versions >= interval '30 days'),
    events      interval check (events >= interval '30 days'),
    quarantine  interval check (quarantine >= interval '30 days'),
    gaps        interval check (gaps >= interval '30 days'),
    comparisons interval check (comparisons >= interval '30 days')
);
comment on table tocsin.retention is
    'what may be forgotten, and after how long; null is never. One row, written by tocsin db migrate with the owner''s login: whoever has the daemon''s role can forget nothing that the owner wants kept';
insert into tocsin.retention default values;

create table tocsin.version_seen (
    tenant   uuid not null,
    source   text not null,
    alert_id text not null,
    hash     bytea not null,
    version  int not null,
    month    date not null,
    primary key (tenant, source, alert_id)
);
comment on table tocsin.version_seen is
    'the newest version that a source had of an alert whose month was dropped: so that it is recognised when the source shows it again, and numbering goes on';

select tocsin.guard('tocsin.version_seen');

create table tocsin.dropped_month (
    month      date not null,
    dropped_at timestamptz not null default clock_timestamp(),
    versions   bigint not null,
    kept       bigint not null,
    bytes      bigint not null,
    primary key (month, dropped_at)
);
comment on table tocsin.dropped_month is 'months of versions that were dropped: how many, how many of them were moved first because their alerts are kept, and the room that it made';

create view tocsin.version_part as
select
    c.oid as part,
    m.month,
    (m.month + interval '1 month') at time zone 'UTC' + r.versions as goes_at,
    coalesce((m.month + interval '1 month') at time zone 'UTC' <= now() - r.versions, false) as over
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
cross join tocsin.retention r
-- A case, so that nothing but such a name is ever read as a month.
cross join lateral (select case when c.relname ~ '^alert_version_[0-9]{6}$' then to_date(right(c.relname, 6), 'YYYYMM') end as month) m
where i.inhparent = 'tocsin.alert_version'::regclass;
comment on view tocsin.version_part is 'the partitions of tocsin.alert_version: month is null for the default one; goes_at is null where versions are kept for ever';

-- Latest versions of alerts that are kept: an alert is kept while something new was stored of it within the retention.
create function tocsin.drop_version_month(month date, at_most bigint)
returns table (dropped boolean, versions bigint, kept bigint, bytes bigint)
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = on as $$
declare
    part text := 'alert_version_' || to_char(month, 'YYYYMM');
    starts timestamptz := month::timestamp at time zone 'UTC';
    ends timestamptz := (month + interval '1 month') at time zone 'UTC';
    kept_since timestamptz := now() - (select r.versions from tocsin.retention r);
    -- Twice as long as Microsoft shows an alert: what is older is shown by nobody any more.
    shown_since timestamptz := now() - interval '400 days';
    tenants uuid[];
    sources text[];
    ids text[];
    hashes bytea[];
begin
    if month <> date_trunc('month', month) or kept_since is null or ends > kept_since then
        raise exception 'the month % may not be dropped: tocsin.retention keeps versions %', month, coalesce('from ' || kept_since, 'for ever')
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- One replica at a time; the others find it done.
    if not pg_try_advisory_xact_lock(hashtextextended('tocsin.drop_version_month', 0)) then
        return;
    end if;
    if not exists (select from tocsin.version_part p where p.month = drop_version_month.month) then
        return;
    end if;
    -- From here on nobody writes into this month, and everybody goes on reading it and writing into the others.
    execute format('lock table tocsin.%I in share mode', part);
    execute format('select count(*) from tocsin.%I', part) into versions;
    bytes := pg_total_relation_size(format('tocsin.%I', part));
    select coalesce(array_agg(a.tenant), '{}'), array_agg(a.source), array_agg(a.alert_id), array_agg(a.hash)
    into tenants, sources, ids, hashes
    from (
        select a.tenant, a.source, a.alert_id, a.hash
        from tocsin.alert a
        where a.version_created_at >= starts and a.version_created_at < ends and a.last_stored_at >= kept_since
        limit at_most + 1
    ) a;
    kept := cardinality(tenants);
    dropped := kept <= at_most;
    if not dropped then
        return next;
        return;
    end if;
    if ends > shown_since then
        execute format(
            'insert into tocsin.version_seen as s (tenant, source, alert_id, hash, version, month)
             select distinct on (v.tenant, v.source, v.alert_id) v.tenant, v.source, v.alert_id, v.hash, v.version, $1
             from tocsin.%I v
             order by v.tenant, v.source, v.alert_id, v.version desc
             on conflict (tenant, source, alert_id) do update set hash = excluded.hash, version = excluded.version, month = excluded.month
             where excluded.version >= s.version', part) using month;
    end if;
    -- What follows holds up everybody, and is over in a moment: few rows are moved, by key.
    execute format('alter table tocsin.alert_version detach partition tocsin.%I', part);
    -- Into the default partition, where the month is found from now on.
    execute format(
        'insert into tocsin.alert_version
         select v.*
         from unnest($1, $2, $3, $4) as k(tenant, source, alert_id, hash)
         join tocsin.%I v on v.tenant = k.tenant and v.source = k.source and v.alert_id = k.alert_id and v.hash = k.hash', part)
        using tenants, sources, ids, hashes;
    execute format('drop table tocsin.%I', part);
    insert into tocsin.dropped_month values (month, clock_timestamp(), versions, kept, bytes);
    return next;
end $$;
comment on function tocsin.drop_version_month is
    'drops a month of versions that ended longer ago than tocsin.retention keeps them; the latest versions of at most so many alerts that are kept move to the default partition first, and with more of them nothing is done. No row: another replica is at it, or there is no such month. Runs with the owner''s rights';

create function tocsin.forget_some(at_most bigint) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    keeps tocsin.retention := (select r from tocsin.retention r);
    gone bigint;
    forgotten bigint := 0;
begin
    if keeps.events is not null then
        delete from tocsin.alert_event
        where ctid = any (array(select ctid from tocsin.alert_event where seen_at < now() - keeps.events order by seen_at limit at_most));
        get diagnostics gone = row_count;
        forgotten := forgotten + gone;
    end if;
    if keeps.quarantine is not null then
        with removed as (
            delete from tocsin.quarantine
            where ctid = any (array(select ctid from tocsin.quarantine where seen_at < now() - keeps.quarantine limit at_most))
            returning tenant, source, replayed_at
        ), counted as (
            update tocsin.feed f
            set quarantined = greatest(0, f.quarantined - r.waiting)
            from (select tenant, source, count(*) filter (where replayed_at is null) as waiting from removed group by tenant, source) r
            where f.tenant = r.tenant and f.source = r.source and r.waiting > 0
        )
        select count(*) from removed into gone;
        forgotten := forgotten + gone;
    end if;
    if keeps.gaps is not null then
        delete from tocsin.gap
        where ctid = any (array(select ctid from tocsin.gap where healed_at < now() - keeps.gaps limit at_most));
        get diagnostics gone = row_count;
        forgotten := forgotten + gone;
    end if;
    if keeps.comparisons is not null then
        delete from tocsin.reconciliation
        where ctid = any (array(select ctid from tocsin.reconciliation where finished_at < now() - keeps.comparisons order by finished_at limit at_most));
        get diagnostics gone = row_count;
        forgotten := forgotten + gone;
    end if;
    delete from tocsin.version_seen
    where ctid = any (array(select ctid from tocsin.version_seen where month < (now() - interval '431 days')::date limit at_most));
    get diagnostics gone = row_count;
    return forgotten + gone;
end $$;
comment on function tocsin.forget_some is
    'deletes at most so many rows of each kind that are older than tocsin.retention keeps them; a gap counts from its healing. Returns how many, 0 when nothing is left. Versions it never touches';

comment on column tocsin.alert.hash is 'of the version that stands. The version itself may be gone, by retention: then dash.alert shows no raw, and this still recognises what the source shows again';

-- Whoever goes is not remembered by the ids of his alerts either.
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
        'alert', 'version_seen', 'incident', 'alert_event', 'incident_redirect', 'reread', 'reconciliation', 'gap', 'quarantine', 'feed'
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
comment on function tocsin.erase_some is
    'deletes at most so many rows of a tenant that is being off-boarded, versions first; returns how many, 0 when nothing is left. Runs with the owner''s rights: the daemon''s role cannot delete a version otherwise. Asks that the tenant is offboarding and that the newest entry of its audit log that changes its state is a tenant.remove with "alerts": "delete". What that cannot stop: the daemon''s role may insert such an entry. It cannot take it back, so the deletion is never without a trace, and an entry that does not continue the chain shows in tocsin audit verify';
