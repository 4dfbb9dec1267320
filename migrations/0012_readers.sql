-- Which customers a reader may see: row security beneath the views of dash.
--
-- A view runs as its owner, and so do the policies of the tables beneath it; but in a policy current_user is the role that
-- asks. So one policy serves a customer's role, the dashboards of those who see everybody, and the owner himself, who is
-- not exempt (force). No policy reads a setting: whoever may set one could otherwise choose what he sees.

create table tocsin.reader_tenant (
    tenant     uuid not null references tocsin.tenant,
    role       name not null,
    granted_at timestamptz not null default now(),
    primary key (tenant, role)
);
comment on table tocsin.reader_tenant is
    'which customers a role may see through dash; written by the owner alone, members of tocsin_reader see all without being named here';
create index reader_tenant_by_role on tocsin.reader_tenant (role, tenant);

create function tocsin.sees_all() returns boolean
    language sql stable parallel safe
    return pg_has_role(current_user, (select nspowner from pg_namespace where nspname = 'tocsin'), 'usage')
        or coalesce(pg_has_role(current_user, to_regrole('tocsin_ingest')::oid, 'usage'), false)
        or coalesce(pg_has_role(current_user, to_regrole('tocsin_reader')::oid, 'usage'), false);
comment on function tocsin.sees_all is 'whether the role that asks sees every customer: the owner, the daemon, and members of tocsin_reader';

create function tocsin.planned_for_all() returns boolean
    language sql immutable parallel safe
    return tocsin.sees_all();
comment on function tocsin.planned_for_all is
    'sees_all as it is when a query is planned, which is why it says immutable: it decides over indexes and never over rows. Who sees all is planned for without the list of customers, everybody else by the index on them; a plan made for one role is never used for another';

create function tocsin.guard_by(guarded regclass, seen text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('alter table %s enable row level security', guarded);
    execute format('alter table %s force row level security', guarded);
    if exists (select from pg_policy where polrelid = guarded and polname = 'readers') then
        execute format('drop policy readers on %s', guarded);
    end if;
    execute format('create policy readers on %s using (%s) with check (tocsin.sees_all())', guarded, seen);
    perform tocsin.guard_ingest(guarded);
end $$;
comment on function tocsin.guard_by is 'lets readers see the rows of a table for which this condition holds, and nobody else write it but the owner and the daemon';

create function tocsin.guard_ingest(guarded regclass) returns void
    language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if to_regrole('tocsin_ingest') is null or exists (select from pg_policy where polrelid = guarded and polname = 'ingest') then
        return;
    end if;
    -- A constant: what the daemon reads and writes is planned as if there were no policy.
    execute format('create policy ingest on %s to tocsin_ingest using (true) with check (true)', guarded);
end $$;
comment on function tocsin.guard_ingest is 'lets the daemon''s role past the policy of a table, as soon as there is that role; repeated with the grants';

create function tocsin.guard(guarded regclass) returns void
    language sql
    return tocsin.guard_by(
        guarded,
        '((select tocsin.sees_all()) or tenant = any (array(select r.tenant from tocsin.reader_tenant r where r.role = current_user)))'
        -- The same for the planner, which finds no index beneath an "or" that it cannot decide.
        ' and (tocsin.planned_for_all() or tenant = any (array(select r.tenant from tocsin.reader_tenant r where r.role = current_user)))'
    );
comment on function tocsin.guard is 'every table with a column tenant: a reader sees the rows of its customers, whoever sees all sees all';

create function tocsin.guard_whole(guarded regclass) returns void
    language sql
    return tocsin.guard_by(guarded, '(select tocsin.sees_all())');
comment on function tocsin.guard_whole is 'a table about all customers together: only who sees every customer reads it';

-- A new month is guarded before anything is stored in it.
create or replace function tocsin.ensure_version_partition(at timestamptz) returns void
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
    perform tocsin.guard(format('tocsin.%I', part)::regclass);
    execute format('alter table tocsin.alert_version attach partition tocsin.%I for values from (%L) to (%L)',
        part, first_day::timestamp at time zone 'UTC', next_month::timestamp at time zone 'UTC');
exception when check_violation then
    -- The default partition holds rows of this month already; they stay there, and so do new ones.
    null;
end $$;

-- A reader sees its own lines only, and this policy must not ask the table that it guards.
select tocsin.guard_by('tocsin.reader_tenant', '(select tocsin.sees_all()) or role = current_user');

select tocsin.guard(c.oid::regclass)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and c.oid <> 'tocsin.reader_tenant'::regclass
order by c.relname;
