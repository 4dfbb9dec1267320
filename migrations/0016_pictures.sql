-- How fast alerts are taken up and closed, kept as a roll-up by the events themselves.
--
-- A median over every event of 90 days takes seconds, and medians do not add up. So a histogram: four steps for each
-- doubling of the time, which no person would tell apart, and for each customer and day a few rows.

create table tocsin.response_day (
    tenant uuid not null,
    day    date not null,
    step   text not null check (step in ('acknowledged', 'closed')),
    bucket smallint not null,
    alerts bigint not null,
    primary key (tenant, day, step, bucket)
);
comment on table tocsin.response_day is
    'how many alerts, by the day of their creation (UTC), were acknowledged and closed how long after they were first stored; kept by a trigger on tocsin.alert_event';
comment on column tocsin.response_day.bucket is 'k: it took at most 2 ^ (k / 4) seconds, and more than the step before';
select tocsin.guard('tocsin.response_day');

create function tocsin.count_response(of_tenant uuid, of_alert text, since timestamptz) returns void
    language sql set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.response_day as known (tenant, day, step, bucket, alerts)
    select
        a.tenant,
        (coalesce(a.created_at, a.first_stored_at) at time zone 'UTC')::date,
        f.step,
        ceil(4 * log(2, greatest(extract(epoch from f.seen_at - a.first_stored_at), 1)))::smallint,
        1
    from (
        -- An alert counts once for each step, by its first event: assigned or moved on from new, and resolved.
        select s.step, min(e.seen_at) as seen_at
        from tocsin.alert_event e
        cross join lateral unnest(
            case
                when e.field = 'status' and e.new_value = 'resolved' then array['acknowledged', 'closed']
                when e.field = 'status' and e.new_value <> 'new' then array['acknowledged']
                when e.field = 'assigned_to' and e.new_value is not null then array['acknowledged']
            end
        ) as s(step)
        where e.tenant = of_tenant and e.alert_id = of_alert
        group by s.step
    ) f
    join tocsin.alert a on a.tenant = of_tenant and a.alert_id = of_alert
    where f.seen_at >= since
    on conflict (tenant, day, step, bucket) do update set alerts = known.alerts + 1;
$$;
comment on function tocsin.count_response is 'counts the steps that an alert has taken for the first time since then; what came before has been counted';

create function tocsin.count_responses() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform tocsin.count_response(e.tenant, e.alert_id, min(e.seen_at)) from added e group by e.tenant, e.alert_id;
    return null;
end $$;
comment on function tocsin.count_responses is 'counts what the events of one statement are the first of';

create trigger count_responses after insert on tocsin.alert_event
    referencing new table as added for each statement execute function tocsin.count_responses();

select tocsin.count_response(e.tenant, e.alert_id, min(e.seen_at)) from tocsin.alert_event e group by e.tenant, e.alert_id;

-- tocsin.erase_some writes a line into tocsin.erasure before it deletes anything: what is counted goes with it.
create function tocsin.erase_responses() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from tocsin.response_day where tenant = new.tenant;
    return null;
end $$;
comment on function tocsin.erase_responses is 'what is counted of a customer goes when his alerts go; runs with the owner''s rights, since the daemon''s role cannot delete it';
create trigger erase_responses after insert on tocsin.erasure for each row execute function tocsin.erase_responses();
revoke all on function tocsin.erase_responses() from public;

create view dash.response_day with (security_barrier) as
select
    d.tenant as directory_id,
    t.name as tenant,
    d.day,
    d.step,
    d.bucket,
    2::double precision ^ (d.bucket / 4::double precision) as le_seconds,
    d.alerts
from tocsin.response_day d
-- Every row has its tenant; a left join is left out by the planner where nobody asks for the name.
left join tocsin.tenant t using (tenant);
comment on view dash.response_day is
    'how long alerts took to be acknowledged and closed, as a histogram per customer and day of creation (UTC): from first stored to first observed, which is true to a poll interval; alerts of which the step was not observed are not in it';
comment on column dash.response_day.step is 'acknowledged: assigned, or its status moved on from new; closed: its status became resolved';
comment on column dash.response_day.bucket is 'the step of the histogram: 2 ^ (bucket / 4) is le_seconds';
comment on column dash.response_day.le_seconds is 'it took at most so long and more than 84 % of it; not cumulative';
comment on column dash.response_day.alerts is 'each alert counts once for each step';

-- Alerts that were closed and came back are few among many events.
create index alert_event_reopened on tocsin.alert_event (seen_at desc) where field = 'status' and old_value = 'resolved';
