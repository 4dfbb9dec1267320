-- What dashboards ask most costs less: three things that were measured at a million alerts.

-- 1. The way to an alert in the portal was built by a function that the planner could not write into the question: 9 us for
-- each alert of a day, of which a hundred are shown. Ids that need no escape, which are nearly all, cost a comparison now.
create function tocsin.url_escape(text) returns text
    language sql immutable strict parallel safe
    return (
        select string_agg(
            case
                when byte between 48 and 57 or byte between 65 and 90 or byte between 97 and 122 or byte in (45, 46, 95, 126) then chr(byte)
                else '%' || upper(lpad(to_hex(byte), 2, '0'))
            end, '' order by at)
        from (select at, get_byte(convert_to($1, 'UTF8'), at) as byte from generate_series(0, octet_length(convert_to($1, 'UTF8')) - 1) as at) as bytes
    );
comment on function tocsin.url_escape is 'percent-encodes every byte of a text that a segment of a URL path cannot hold';

-- Neither strict nor with a question of its own: else it is not written into the question that calls it.
create or replace function tocsin.url_segment(text) returns text
    language sql immutable parallel safe
    return case when $1 ~ '^[A-Za-z0-9._~-]*$' then $1 else tocsin.url_escape($1) end;

-- 2. The histogram of responses had a row for each step, and its name in each row. Both steps of a bucket are one row now.
drop view dash.response_day;
alter table tocsin.response_day rename to response_step_day;
alter table tocsin.response_step_day rename constraint response_day_pkey to response_step_day_pkey;

create table tocsin.response_day (
    tenant       uuid not null,
    day          date not null,
    bucket       smallint not null,
    acknowledged bigint not null,
    closed       bigint not null,
    primary key (tenant, day, bucket)
);
comment on table tocsin.response_day is
    'how many alerts, by the day of their creation (UTC), were acknowledged and closed how long after they were first stored; kept by a trigger on tocsin.alert_event';
comment on column tocsin.response_day.bucket is 'k: it took at most 2 ^ (k / 4) seconds, and more than the step before';
select tocsin.guard('tocsin.response_day');

insert into tocsin.response_day (tenant, day, bucket, acknowledged, closed)
select
    tenant, day, bucket,
    coalesce(sum(alerts) filter (where step = 'acknowledged'), 0),
    coalesce(sum(alerts) filter (where step = 'closed'), 0)
from tocsin.response_step_day
group by tenant, day, bucket;
drop table tocsin.response_step_day;

create or replace function tocsin.count_response(of_tenant uuid, of_alert text, since timestamptz) returns void
    language sql set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.response_day as known (tenant, day, bucket, acknowledged, closed)
    select
        a.tenant,
        (coalesce(a.created_at, a.first_stored_at) at time zone 'UTC')::date,
        ceil(4 * log(2, greatest(extract(epoch from f.seen_at - a.first_stored_at), 1)))::smallint as bucket,
        count(*) filter (where f.step = 'acknowledged'),
        count(*) filter (where f.step = 'closed')
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
    -- Both steps may have taken equally long.
    group by 1, 2, 3
    on conflict (tenant, day, bucket) do update set
        acknowledged = known.acknowledged + excluded.acknowledged,
        closed = known.closed + excluded.closed;
$$;

create view dash.response_day with (security_barrier) as
select
    d.tenant as directory_id,
    t.name as tenant,
    d.day,
    d.bucket,
    2::double precision ^ (d.bucket / 4::double precision) as le_seconds,
    d.acknowledged,
    d.closed
from tocsin.response_day d
left join tocsin.tenant t using (tenant);
comment on view dash.response_day is
    'how long alerts took to be acknowledged and closed, as a histogram per customer and day of creation (UTC): from first stored to first observed, which is true to a poll interval; alerts of which the step was not observed are not in it';
comment on column dash.response_day.directory_id is 'the customer: id of its directory (tenant) at Microsoft';
comment on column dash.response_day.tenant is 'the customer''s name here';
comment on column dash.response_day.day is 'day of creation, UTC';
comment on column dash.response_day.bucket is 'the step of the histogram: 2 ^ (bucket / 4) is le_seconds';
comment on column dash.response_day.le_seconds is 'it took at most so long and more than 84 % of it; not cumulative';
comment on column dash.response_day.acknowledged is 'alerts that were assigned, or whose status moved on from new, so long after they were first stored; each counts once';
comment on column dash.response_day.closed is 'alerts whose status became resolved so long after they were first stored; each counts once';

-- 3. Every row of these has its customer, and is guarded itself: a left join is left out by the planner where nobody asks
-- for the name.
create or replace view dash.technique_day with (security_barrier) as
select d.tenant as directory_id, t.name as tenant, d.day, d.technique, d.alerts
from tocsin.technique_day d
left join tocsin.tenant t using (tenant)
where d.alerts > 0;

create or replace view dash.alert_day with (security_barrier) as
select
    d.tenant as directory_id,
    t.name as tenant,
    d.day,
    nullif(d.severity, '') as severity,
    nullif(d.status, '') as status,
    nullif(d.service_source, '') as service_source,
    d.alerts
from tocsin.alert_day d
left join tocsin.tenant t using (tenant)
where d.alerts > 0;

create or replace view dash.detection_day with (security_barrier) as
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
left join tocsin.tenant t using (tenant)
where d.alerts > 0;
