-- Rows of the customer TENANT in every table that a view of dash reads, each with MARK or the customer's id in it.
insert into tocsin.tenant (tenant, name, cloud, app, sources, state, portal_url, token_expires_at)
    values ('TENANT', 'MARK TENANT', 'MARK', 'app-MARK', '{graph-alerts}', 'active', 'https://MARK.example', now() + interval '9 days');
insert into tocsin.lease (tenant) values ('TENANT');
insert into tocsin.trouble (tenant, origin, verdict, reason, action, error_code) values ('TENANT', 'sign-in', 'needs-customer', 'MARK reason', 'MARK action', 'MARK');
insert into tocsin.tenant_key values ('TENANT', 'MARK', 'MARK');
insert into tocsin.tenant_secret (tenant, kind, version, client_id, sealed) values ('TENANT', 'refresh-token', 1, 'MARK', 'MARK');
insert into tocsin.tenant_access values ('TENANT', now() + interval '20 days');
insert into tocsin.tenant_consent (tenant, audience, granted, missing, missing_since) values ('TENANT', 'MARK', '{MARK}', '{MARK-missing}', now());
insert into tocsin.clock_warning (tenant, clock, ends_at, warned_at_days) values ('TENANT', 'MARK', now(), 3);
insert into tocsin.partial_sight (tenant, compared, missing, newest_at) values ('TENANT', 9, 4, now());
select tocsin.ensure_version_partition('2026-11-05 00:00+00');
insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, raw)
    select 'TENANT', 'graph-alerts', 'MARK-a' || n, sha256(('MARK' || n)::bytea),
        case when n % 2 = 0 then timestamptz '2026-11-05' else '-infinity' end, 1, '{"title":"MARK ' || n || '"}'
    from generate_series(1, 20) n;
insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, incident_id, title, severity, status, created_at, last_updated_at)
    select tenant, alert_id, source, 1, hash, created_at, 'MARK-i', 'MARK title ' || alert_id, 'high', 'new', now(), now()
    from tocsin.alert_version where tenant = 'TENANT';
insert into tocsin.alert_event (tenant, alert_id, field, old_value, new_value, source) values ('TENANT', 'MARK-a1', 'status', 'MARK', 'MARK2', 's');
insert into tocsin.incident (tenant, incident_id, hash, title, raw) values ('TENANT', 'MARK-i', 'MARK', 'MARK incident', '{"title":"MARK"}');
insert into tocsin.incident_redirect values ('TENANT', 'MARK-i', 'MARK-j');
insert into tocsin.reread (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks) values ('TENANT', 'MARK', 'short', 0, 1, 1, 0);
insert into tocsin.reconciliation (tenant, source, asked_by, run, from_ticks, to_ticks, at_source, stored, missing, changed, only_stored, missing_ids)
    values ('TENANT', 'MARK', 'nightly', 1, 0, 1, 0, 0, 0, 0, 0, '{MARK-a1}');
insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason) values ('TENANT', 'MARK', 0, 1, 'MARK reason');
insert into tocsin.quarantine (tenant, source, hash, reason, raw_bytes) values ('TENANT', 'MARK', 'MARK', 'MARK reason', 'MARK bytes');
insert into tocsin.feed (tenant, source, last_error) values ('TENANT', 'graph-alerts', 'MARK error');
insert into tocsin.audit_head values ('TENANT', 1, sha256('MARK'));
insert into tocsin.audit (tenant, seq, at, actor, action, details, previous, hash) values ('TENANT', 1, now(), 'MARK', 'MARK', '{}', 'MARK', 'MARK');
