-- Who our customers are, how they are reached, and who looks after them.
--
-- Every key begins with the tenant, so that the tables can be distributed by tenant. Columns marked
-- SEALED hold ciphertext only; nothing in this schema ever holds a token or a key in the clear.

create schema if not exists tocsin;
create schema if not exists dash;
comment on schema tocsin is 'private to tocsin; read dash instead';
comment on schema dash is 'what dashboards and scripts may rely on; holds no token, key or ciphertext';

create table tocsin.tenant (
    tenant             uuid primary key,
    name               text not null check (name <> ''),
    cloud              text not null,
    app                text not null,
    sources            text[] not null check (cardinality(sources) > 0),
    state              text not null check (state in ('awaiting-consent', 'active', 'paused', 'offboarding', 'removed')),
    state_since        timestamptz not null default now(),
    portal_url         text not null default '',
    credential_version bigint not null default 0,
    last_refresh_at    timestamptz,
    token_expires_at   timestamptz,
    created_at         timestamptz not null default now()
);
comment on table tocsin.tenant is 'one row per customer, tombstones included; tenant is the Entra directory id and never changes';
comment on column tocsin.tenant.state is 'what operator and credential decide; needs-consent and needs-customer follow from tocsin.trouble';
comment on column tocsin.tenant.portal_url is 'base of the portal links, copied from the configured cloud by the daemon';
comment on column tocsin.tenant.credential_version is 'grows with every imported credential, so that a replica tries the new one at once';
comment on column tocsin.tenant.token_expires_at is 'estimate: a refresh token dies after 90 days without use';

-- A name is free again once its tenant is removed.
create unique index tenant_name_once on tocsin.tenant (name) where state <> 'removed';

create table tocsin.trouble (
    tenant     uuid not null references tocsin.tenant,
    origin     text not null,
    verdict    text not null,
    since      timestamptz not null default now(),
    seen_at    timestamptz not null default now(),
    shown_from timestamptz not null default now(),
    reason     text not null,
    action     text not null,
    error_code text,
    primary key (tenant, origin)
);
comment on table tocsin.trouble is 'what does not work now, one row per tenant and activity (sign-in, or a source); deleted when it works again';
comment on column tocsin.trouble.shown_from is 'passing trouble is shown only once it has lasted';

create table tocsin.app_fault (
    app        text not null,
    cloud      text not null,
    since      timestamptz not null default now(),
    seen_at    timestamptz not null default now(),
    reason     text not null,
    action     text not null,
    error_code text,
    primary key (app, cloud)
);
comment on table tocsin.app_fault is 'a fault of our own app registration: one alarm for all of its tenants; belongs to no tenant';

create table tocsin.tenant_key (
    tenant     uuid primary key references tocsin.tenant,
    key_id     text not null,
    wrapped    bytea not null,
    created_at timestamptz not null default now()
);
comment on table tocsin.tenant_key is 'the data key of a tenant, wrapped by the key ring; destroyed when the tenant is removed';
comment on column tocsin.tenant_key.wrapped is 'SEALED under the ring key key_id';

create table tocsin.tenant_secret (
    tenant           uuid not null references tocsin.tenant,
    kind             text not null,
    version          bigint not null check (version > 0),
    client_id        text not null,
    sealed           bytea not null,
    previous_version bigint,
    previous         bytea,
    import_mac       bytea,
    updated_at       timestamptz not null default now(),
    primary key (tenant, kind),
    check ((previous is null) = (previous_version is null))
);
comment on table tocsin.tenant_secret is 'refresh tokens';
comment on column tocsin.tenant_secret.version is 'grows with every rotation; part of the associated data, so an older blob does not open';
comment on column tocsin.tenant_secret.sealed is 'SEALED under the data key of the tenant';
comment on column tocsin.tenant_secret.previous is 'SEALED; the token before, kept until the new one has worked once';
comment on column tocsin.tenant_secret.import_mac is 'keyed hash of the token last imported, under the data key: recognises the same import again';

create table tocsin.replica (
    replica    uuid primary key,
    host       text not null,
    started_at timestamptz not null default now(),
    seen_at    timestamptz not null default now()
);
comment on table tocsin.replica is 'running processes; those not seen for a while count no more; belongs to no tenant';

create table tocsin.lease (
    tenant     uuid primary key references tocsin.tenant,
    holder     uuid,
    epoch      bigint not null default 0,
    expires_at timestamptz not null default '-infinity',
    unique (tenant, epoch)
);
comment on table tocsin.lease is 'which replica looks after a tenant; expiry by the clock of this database';
comment on column tocsin.lease.epoch is
    'grows with every claim. Unique with tenant on purpose: a claim then conflicts with the key-share lock of a writer, a renewal does not';
