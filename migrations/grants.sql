-- Who may do what. Run by `tocsin db migrate` after every migration, so that roles which appear later
-- get their grants too; each statement can be repeated. A role that does not exist is passed over.
--
-- tocsin_owner   owns both schemas; migrations run as it; nobody logs in as it
-- tocsin_ingest  what the daemon works as: no DDL, and no change or deletion of a stored version
-- tocsin_reader  reads schema dash and nothing else, of every customer
--
-- Roles of single customers are made by `tocsin reader create`, and are members of none of these.

do $$
begin
    revoke all on function tocsin.erase_some(uuid, bigint), tocsin.ensure_version_partition(timestamptz), tocsin.forget_derived(),
        tocsin.drop_version_month(date, bigint), tocsin.forget_some(bigint) from public;
    if to_regrole('tocsin_ingest') is not null then
        grant usage on schema tocsin, dash to tocsin_ingest;
        grant select on all tables in schema tocsin, dash to tocsin_ingest;
        grant insert, update, delete on
            tocsin.tenant, tocsin.trouble, tocsin.app_fault, tocsin.tenant_key, tocsin.tenant_secret,
            tocsin.replica, tocsin.lease, tocsin.feed, tocsin.alert, tocsin.gap, tocsin.quarantine,
            tocsin.incident, tocsin.incident_redirect, tocsin.reread, tocsin.reconciliation,
            tocsin.tenant_access, tocsin.tenant_consent, tocsin.app_clock, tocsin.clock_warning,
            tocsin.partial_sight,
            tocsin.notified, tocsin.notification, tocsin.notifier,
            tocsin.link, tocsin.sign_in, tocsin.candidate to tocsin_ingest;
        revoke delete on tocsin.alert, tocsin.incident from tocsin_ingest;
        -- What is derived can be derived again.
        grant insert, update, delete on
            tocsin.derivation, tocsin.digested, tocsin.evidence, tocsin.finding, tocsin.technique_day, tocsin.alert_day,
            tocsin.detection_day, tocsin.alert_hour, tocsin.ingest_hour to tocsin_ingest;
        grant execute on function tocsin.forget_derived() to tocsin_ingest;
        grant insert on tocsin.alert_version, tocsin.alert_event to tocsin_ingest;
        grant insert, update on tocsin.response_day to tocsin_ingest;
        -- An entry of the audit log is written once: no role but the owner can change or delete one.
        grant insert on tocsin.audit to tocsin_ingest;
        grant insert, update on tocsin.audit_head, tocsin.key_rotation, tocsin.erasure to tocsin_ingest;
        grant delete on tocsin.key_rotation, tocsin.erasure to tocsin_ingest;
        grant execute on function tocsin.erase_some(uuid, bigint) to tocsin_ingest;
        grant execute on function tocsin.ensure_version_partition(timestamptz) to tocsin_ingest;
        -- What may be forgotten is written in tocsin.retention, which only the owner can change.
        grant execute on function tocsin.drop_version_month(date, bigint) to tocsin_ingest;
        grant execute on function tocsin.forget_some(bigint) to tocsin_ingest;
        -- The daemon takes a reader's sight of a customer who leaves; only the owner gives it.
        grant delete on tocsin.reader_tenant to tocsin_ingest;
        perform tocsin.guard_ingest(c.oid::regclass)
        from pg_class c
        where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and c.relforcerowsecurity;
    end if;
    if to_regrole('tocsin_reader') is not null then
        grant usage on schema dash to tocsin_reader;
        grant select on all tables in schema dash to tocsin_reader;
    end if;
    perform tocsin.show_dash(r.rolname) from pg_roles r where r.rolname in (select role from tocsin.reader_tenant);
end $$;
