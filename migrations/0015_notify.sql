-- The outgoing webhook: what was last told, what waits to be told, and who tells it.
--
-- What is told follows from a comparison of what is with what was last told, and not from triggers on the tables: the state
-- of a tenant follows from its troubles and the time (a passing one is shown once it has lasted, without any write), a storm
-- of changes has to come to one message, and a mistake in a message must never keep a trouble from being written. Told and
-- message are written in one transaction, so nothing is told twice and no last state is never told.

create table tocsin.notified (
    tenant    uuid not null,
    subject   text not null,
    condition text not null,
    since     timestamptz not null default now(),
    primary key (tenant, subject)
);
comment on table tocsin.notified is
    'what was last told, by tenant and subject (state, gap, app:NAME@CLOUD); what concerns everybody stands under the tenant of zeros';

create table tocsin.notification (
    tenant       uuid not null,
    number       bigint generated always as identity,
    webhook_id   uuid not null default gen_random_uuid(),
    subject      text not null,
    condition    text not null,
    payload      text not null,
    created_at   timestamptz not null default now(),
    tries        int not null default 0,
    next_try_at  timestamptz not null default now(),
    last_error   text,
    delivered_at timestamptz,
    given_up_at  timestamptz,
    primary key (tenant, number)
);
comment on table tocsin.notification is
    'messages of the webhook, in the order in which a tenant''s are told; what is done with stays for a week. What concerns everybody stands under the tenant of zeros';
comment on column tocsin.notification.webhook_id is 'the same at every try, so that a receiver knows a message that comes twice';
create index notification_waiting on tocsin.notification (tenant, number) where delivered_at is null and given_up_at is null;

create table tocsin.notifier (
    sole            boolean primary key default true check (sole),
    holder          uuid,
    expires_at      timestamptz not null default '-infinity',
    last_success_at timestamptz,
    failing_since   timestamptz
);
comment on table tocsin.notifier is 'the one process that tells, and how it fares; belongs to no tenant';
insert into tocsin.notifier default values;

select tocsin.guard('tocsin.notified');
select tocsin.guard('tocsin.notification');
