-- Deleting what is stored of a customer takes an entry of the audit log, not only a state that the caller may write.

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
    return at_most - room;
end $$;
comment on function tocsin.erase_some is
    'deletes at most so many rows of a tenant that is being off-boarded, versions first; returns how many, 0 when nothing is left. Runs with the owner''s rights: the daemon''s role cannot delete a version otherwise. Asks that the tenant is offboarding and that the newest entry of its audit log that changes its state is a tenant.remove with "alerts": "delete". What that cannot stop: the daemon''s role may insert such an entry. It cannot take it back, so the deletion is never without a trace, and an entry that does not continue the chain shows in tocsin audit verify';
