-- Who did what, which replica has which keys, and what is left of a customer who has gone.

create table tocsin.audit (
    tenant   uuid not null,
    seq      bigint not null check (seq > 0),
    at       timestamptz not null,
    actor    text not null,
    action   text not null,
    details  text not null,
    previous bytea not null,
    hash     bytea not null,
    primary key (tenant, seq)
);
comment on table tocsin.audit is
    'what was done to each tenant and by whom, written in the transaction of the deed itself; the daemon can neither change nor delete an entry. The tenant 00000000-0000-0000-0000-000000000000 stands for the installation';
comment on column tocsin.audit.details is 'JSON as it was written: a type that rearranges it would break the hash';
comment on column tocsin.audit.previous is 'hash of the entry before; 32 zero bytes for the first one';
comment on column tocsin.audit.hash is 'SHA-256 over all other columns, each preceded by its length; crate tenant-registry, module audit, says how';

create table tocsin.audit_head (
    tenant uuid primary key,
    seq    bigint not null check (seq >= 0),
    hash   bytea not null
);
comment on table tocsin.audit_head is 'the last entry of each chain: shows a tail that was cut, unless the head was changed too, which copies kept elsewhere show';

alter table tocsin.replica
    add column ring text[] not null default '{}',
    add column looks bigint not null default 0;
comment on column tocsin.replica.looks is 'how often this process has looked round: what was committed before one look is acted on before the next';
comment on column tocsin.replica.ring is
    'ids of the keys that this process has, the one that seals first; empty from a version that does not say. Nothing is sealed under a key that a live process lacks';

create table tocsin.key_rotation (
    key_id      text primary key,
    begun_at    timestamptz not null default now(),
    finished_at timestamptz
);
comment on table tocsin.key_rotation is 'rotations to a key, so that one that was interrupted is gone on with and not begun anew; belongs to no tenant';

create table tocsin.erasure (
    tenant      uuid primary key references tocsin.tenant,
    begun_at    timestamptz not null default now(),
    alerts      bigint not null default 0,
    versions    bigint not null default 0,
    incidents   bigint not null default 0,
    others      bigint not null default 0,
    finished_at timestamptz
);
comment on table tocsin.erasure is 'the rows of a removed tenant that were deleted by request, as far as that has come';

create function tocsin.erase_some(gone uuid, at_most bigint) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    part regclass;
    name text;
    room bigint := at_most;
    deleted bigint;
begin
    -- Only what an operator has asked for, however much the caller may.
    perform from tocsin.tenant where tenant = gone and state = 'offboarding';
    if not found then
        raise exception 'tenant % is not being erased', gone using errcode = 'object_not_in_prerequisite_state';
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
    return at_most - room;
end $$;
comment on function tocsin.erase_some is
    'deletes at most so many rows of a tenant that is being off-boarded, versions first; returns how many, 0 when nothing is left. Runs with the owner''s rights: the daemon''s role cannot delete a version otherwise';
