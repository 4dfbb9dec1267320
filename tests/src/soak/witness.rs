//! A witness inside the database: whoever writes for a customer while somebody else holds the lease is written
//! down there, by a trigger that knows the login of each replica. It shares no line with the fence it watches.

/// What is made once, by the administrator.
pub const SCHEMA: &[&str] = &[
    "create role soak_one login in role tocsin_ingest",
    "create role soak_two login in role tocsin_ingest",
    "create schema soak",
    "create table soak.replica (login name, replica uuid, primary key (login, replica))",
    "create table soak.stale (at timestamptz not null default clock_timestamp(), login name, tenant uuid, what text, holder uuid)",
    // What the database should suffer: an error code for the next so many writes.
    "create table soak.trouble (code text not null, message text not null)",
    "create sequence soak.left minvalue -1000000000 maxvalue 1000000000",
    "create function soak.watch() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
     declare
         who uuid;
         bad record;
     begin
         select code, message into bad from soak.trouble limit 1;
         if found then
             if nextval('soak.left') <= 0 then
                 raise exception using errcode = bad.code, message = bad.message;
             end if;
         end if;
         select holder into who from tocsin.lease where tenant = new.tenant;
         -- Released and not yet claimed, a customer is nobody's: the epoch still stands, and a claim waits for this writer.
         if session_user like 'soak\\_%' and who is not null
            and not exists (select from soak.replica r where r.login = session_user and r.replica = who) then
             insert into soak.stale (login, tenant, what, holder) values (session_user, new.tenant, tg_table_name, who);
         end if;
         return new;
     end $$",
    "create trigger soak_watch after insert on tocsin.alert_version for each row execute function soak.watch()",
    "create trigger soak_watch after insert or update of watermark_ticks, caught_up_ticks on tocsin.feed for each row execute function soak.watch()",
    "create trigger soak_watch after insert or update on tocsin.alert for each row execute function soak.watch()",
];

/// Stale writes that were noticed. Who a replica is, is known to the witness a moment after it has begun.
pub const STALE: &str = "
select count(*) from soak.stale s
where s.at < clock_timestamp() - interval '15 seconds'
  and not exists (select from soak.replica r where r.login = s.login and r.replica = s.holder)";

/// Versions without a latest row, latest rows without their version, and counts that do not fit: never seen from
/// outside, not even between two statements of a writer.
pub const HALVES: &str = "
select
    (select count(*) from (select distinct tenant, alert_id from tocsin.alert_version) v
     where not exists (select from tocsin.alert a where a.tenant = v.tenant and a.alert_id = v.alert_id))
  + (select count(*) from tocsin.alert a
     where not exists (select from tocsin.alert_version v
                       where v.tenant = a.tenant and v.source = a.source and v.alert_id = a.alert_id and v.hash = a.hash and v.created_at = a.version_created_at))
  + (select count(*) from tocsin.alert a
     where a.version_count <> (select count(*) from tocsin.alert_version v where v.tenant = a.tenant and v.alert_id = a.alert_id))";
