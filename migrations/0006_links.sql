-- Invitations: the link that an operator sends to a customer, and the sign-ins that are begun from it.
--
-- Nothing here opens anything: the secret of a link, the state of a sign-in and the key that lies in the browser's
-- cookie are stored as hashes only, and the verifier and nonce of a sign-in are derived from that cookie.

create table tocsin.link (
    tenant      uuid not null references tocsin.tenant,
    link        uuid not null,
    kind        text not null check (kind in ('delegated', 'application')),
    replaces    boolean not null,
    secret_hash bytea not null,
    made_at     timestamptz not null default now(),
    expires_at  timestamptz not null,
    opened_at   timestamptz,
    steps       jsonb not null default '[]',
    proving_at  timestamptz,
    ended_at    timestamptz,
    outcome     text check (outcome in ('linked', 'cancelled', 'superseded')),
    primary key (tenant, link),
    check ((ended_at is null) = (outcome is null))
);
comment on table tocsin.link is 'invitations to consent; good for one connection, until they expire';
comment on column tocsin.link.replaces is 'the operator asked for a live connection to be replaced';
comment on column tocsin.link.steps is 'the checklist of the last sign-in, in order: step, passed, words';
comment on column tocsin.link.proving_at is 'since when a sign-in is being proved; null when none is';

-- One invitation of a tenant is open at a time.
create unique index link_open_once on tocsin.link (tenant) where ended_at is null;

create table tocsin.sign_in (
    tenant       uuid not null,
    sign_in      uuid not null,
    link         uuid not null,
    state_hash   bytea not null,
    browser_hash bytea not null,
    redirect_uri text not null,
    begun_at     timestamptz not null default now(),
    expires_at   timestamptz not null,
    used_at      timestamptz,
    primary key (tenant, sign_in),
    foreign key (tenant, link) references tocsin.link on delete cascade
);
comment on table tocsin.sign_in is 'sign-ins begun from a link: each is answered once, and only in the browser that began it';
comment on column tocsin.sign_in.browser_hash is 'hash of the key in the cookie of that browser';
