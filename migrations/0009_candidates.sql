-- A token that a sign-in brought and that is not proved yet belongs to that sign-in, not to the tenant: two people
-- may sign in from one link at the same time, and what one of them brought must never be taken for the other's.

create table tocsin.candidate (
    tenant    uuid not null,
    sign_in   uuid not null,
    version   bigint not null check (version > 0),
    client_id text not null,
    sealed    bytea not null,
    sealed_at timestamptz not null default now(),
    primary key (tenant, sign_in),
    foreign key (tenant, sign_in) references tocsin.sign_in on delete cascade
);
comment on table tocsin.candidate is 'refresh tokens that are being proved; gone when the proof or the link has ended';
comment on column tocsin.candidate.sealed is 'SEALED under the data key of the tenant, for this sign-in';

delete from tocsin.tenant_secret where kind = 'candidate';

alter table tocsin.sign_in add column proving_at timestamptz;
comment on column tocsin.sign_in.proving_at is 'when its proof last said that it goes on; null when none is under way';

alter table tocsin.link add column proving uuid;
comment on column tocsin.link.proving is 'the sign-in whose checklist is shown: the last one that was answered, or the one that connected';
