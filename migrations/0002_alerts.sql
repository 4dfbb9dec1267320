-- What happened: every version of every alert as received, and the latest state of each.

create table tocsin.feed (
    tenant          uuid not null references tocsin.tenant,
    source          text not null,
    watermark_ticks bigint,
    read_order      text not null default 'ascending',
    caught_up_ticks bigint,
    last_attempt_at timestamptz,
    last_success_at timestamptz,
    last_error      text,
    throttled_until timestamptz,
    quarantined     bigint not null default 0,
    primary key (tenant, source)
);
comment on table tocsin.feed is 'how far each source of each tenant has been read';
comment on column tocsin.feed.watermark_ticks is
    'newest committed last-update stamp in 100 ns since 1970: Microsoft sends 7 digits, timestamptz keeps 6, and the difference would skip alerts';
comment on column tocsin.feed.caught_up_ticks is 'everything visible at the source at this instant of its clock is stored';

create function tocsin.ticks_to_timestamptz(ticks bigint) returns timestamptz
    language sql immutable strict parallel safe
    return timestamptz 'epoch' + (ticks / 10000000) * interval '1 second' + (ticks % 10000000 / 10) * interval '1 microsecond';
comment on function tocsin.ticks_to_timestamptz is '100 ns since 1970 as a timestamp, cut to the microsecond';

create table tocsin.alert_version (
    tenant           uuid not null,
    source           text not null,
    alert_id         text not null,
    hash             bytea not null,
    created_at       timestamptz not null,
    version          int not null,
    last_update_text text,
    stored_at        timestamptz not null default now(),
    raw              text not null,
    primary key (tenant, source, alert_id, hash, created_at)
) partition by range (created_at);
comment on table tocsin.alert_version is
    'every distinct body ever received, never changed or deleted by the daemon. Partitioned by the alert''s own creation time, which never changes, so the key stays exact across partitions';
comment on column tocsin.alert_version.created_at is 'the alert''s creation time; -infinity when it has no usable one (default partition)';
comment on column tocsin.alert_version.hash is 'blake3 of raw';
comment on column tocsin.alert_version.raw is 'the object as received; castable to json';

-- pglz, the default, costs more than everything else an insert does (3 times the time for 7 % less disk).
do $$
begin
    alter table tocsin.alert_version alter column raw set compression lz4;
exception when feature_not_supported then
    raise warning 'this Postgres was built without lz4: storing alerts will be about three times slower';
end $$;

create table tocsin.alert_version_default partition of tocsin.alert_version default;

create function tocsin.ensure_version_partition(at timestamptz) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    first_day date := date_trunc('month', at at time zone 'UTC')::date;
    next_month date := (first_day + interval '1 month')::date;
    part text := 'alert_version_' || to_char(first_day, 'YYYYMM');
begin
    -- Absurd creation times stay in the default partition; they must not make thousands of tables.
    if at < timestamptz '2015-01-01 00:00+00' or at > now() + interval '62 days' then
        return;
    end if;
    if to_regclass('tocsin.' || part) is not null then
        return;
    end if;
    -- One at a time; whoever waited finds the work done.
    perform pg_advisory_xact_lock(hashtextextended('tocsin.alert_version', 0));
    -- Asked of the catalogue: an advisory lock does not refresh what to_regclass remembers.
    if exists (select from pg_catalog.pg_class where relname = part and relnamespace = 'tocsin'::regnamespace) then
        return;
    end if;
    -- Made apart and then attached: attaching lets writers of other partitions go on.
    execute format('create table tocsin.%I (like tocsin.alert_version including all)', part);
    execute format('alter table tocsin.alert_version attach partition tocsin.%I for values from (%L) to (%L)',
        part, first_day::timestamp at time zone 'UTC', next_month::timestamp at time zone 'UTC');
exception when check_violation then
    -- The default partition holds rows of this month already; they stay there, and so do new ones.
    null;
end $$;
comment on function tocsin.ensure_version_partition is
    'makes the monthly partition for an alert created at this time; runs with the owner''s rights so that the daemon needs none';

create table tocsin.alert (
    tenant             uuid not null,
    alert_id           text not null,
    source             text not null,
    source_rank        smallint not null,
    hash               bytea not null,
    version_created_at timestamptz not null,
    last_update_ticks  bigint not null default -9223372036854775808,
    incident_id        text,
    title              text,
    severity           text,
    status             text,
    service_source     text,
    detection_source   text,
    category           text,
    created_at         timestamptz,
    last_updated_at    timestamptz,
    version_count      int not null default 1,
    first_stored_at    timestamptz not null default now(),
    last_stored_at     timestamptz not null default now(),
    primary key (tenant, alert_id)
);
comment on table tocsin.alert is 'latest state, whichever source delivered it; the body is in the version that (source, hash, version_created_at) names';
comment on column tocsin.alert.last_update_ticks is 'the smallest bigint when the source sent no readable stamp';
-- Partial on purpose: a look-up by key says nothing of last_updated_at, so the planner cannot take this
-- index for it and filter. On a table believed empty that looks as cheap as the key, and is not.
create index alert_by_update on tocsin.alert (tenant, last_updated_at desc) where last_updated_at is not null;
create index alert_by_arrival on tocsin.alert (last_stored_at desc);

create table tocsin.gap (
    tenant     uuid not null references tocsin.tenant,
    source     text not null,
    from_ticks bigint not null,
    to_ticks   bigint not null,
    reason     text not null,
    noticed_at timestamptz not null default now(),
    healed_at  timestamptz,
    primary key (tenant, source, from_ticks, to_ticks)
);
comment on table tocsin.gap is 'stretches of a source that could not be read';

create table tocsin.quarantine (
    tenant    uuid not null references tocsin.tenant,
    source    text not null,
    hash      bytea not null,
    seen_at   timestamptz not null default now(),
    reason    text not null,
    raw_bytes bytea not null,
    primary key (tenant, source, hash)
);
comment on table tocsin.quarantine is 'records that could not be understood as alerts, kept as received; the same bytes again are one row';
