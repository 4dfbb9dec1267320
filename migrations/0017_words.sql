-- What each column of the read side is, in its comment: docs/reference/views.md is written from these.

-- Columns that mean the same wherever they stand.
do $$
declare
    said record;
begin
    for said in
        select c.relname, a.attname, w.words
        from (values
            ('directory_id', 'the customer: id of its directory (tenant) at Microsoft'),
            ('tenant', 'the customer''s name here'),
            ('alert_id', 'the alert''s id at Microsoft, unique within the customer'),
            ('source', 'where it was read: graph-alerts, mde-alerts or graph-incidents'),
            ('portal_url', 'a link into the customer''s portal, made here and never copied; null where the cloud has no portal'),
            ('title', 'the headline'),
            ('severity', 'as Microsoft Graph spells it: informational, low, medium, high, unknown'),
            ('service_source', 'the product that raised it, as Microsoft Graph spells it'),
            ('day', 'day of creation, UTC'),
            ('hour', 'the beginning of the hour'),
            ('alerts', 'how many')
        ) w(name, words)
        join pg_class c on c.relnamespace = 'dash'::regnamespace and c.relkind = 'v'
        join pg_attribute a on a.attrelid = c.oid and a.attname = w.name
        where col_description(c.oid, a.attnum) is null
    loop
        execute format('comment on column dash.%I.%I is %L', said.relname, said.attname, said.words);
    end loop;
end $$;

comment on column dash.alert.incident_id is 'the incident it belongs to; where that was merged, the one that took its place';
comment on column dash.alert.status is 'as Microsoft Graph spells it: new, inProgress, resolved, unknown';
comment on column dash.alert.detection_source is 'what detected it, as Microsoft Graph spells it';
comment on column dash.alert.category is 'the kind of attack, in Microsoft''s words';
comment on column dash.alert.created_at is 'when it was created, by the source''s clock';
comment on column dash.alert.last_updated_at is 'the newest update stamp, by the source''s clock';
comment on column dash.alert.first_stored_at is 'when its first version was stored, by the clock of this database';
comment on column dash.alert.last_stored_at is 'when its latest version was stored';
comment on column dash.alert.version_count is 'how many distinct versions were seen, at all sources together';
comment on column dash.alert.raw is 'the body of the version that stands, as received; null once [retention] has let it go';
comment on column dash.alert.assigned_to is 'who works on it';
comment on column dash.alert.classification is 'what people found it to be, as Microsoft Graph spells it';
comment on column dash.alert.determination is 'the same more closely';

comment on column dash.alert_version.version is 'counts the versions of this alert at this source, from 1';
comment on column dash.alert_version.last_update_text is 'the update stamp exactly as received';
comment on column dash.alert_version.stored_at is 'when it was stored, by the clock of this database';
comment on column dash.alert_version.raw is 'the body exactly as received: same members, same numbers, same escapes';

comment on column dash.alert_event.field is 'status, assigned_to, classification, determination or severity';
comment on column dash.alert_event.old_value is 'before; null if there was none';
comment on column dash.alert_event.new_value is 'after';
comment on column dash.alert_event.changed_at is 'update stamp of the version that showed the change, by the source''s clock';
comment on column dash.alert_event.seen_at is 'when that version was stored';

comment on column dash.incident.incident_id is 'the incident''s id at Microsoft, unique within the customer';
comment on column dash.incident.status is 'as Microsoft Graph spells it: active, inProgress, awaitingAction, resolved, redirected';
comment on column dash.incident.redirect_incident_id is 'the incident it was merged into';
comment on column dash.incident.last_updated_at is 'the newest update stamp, by the source''s clock';
comment on column dash.incident.raw is 'the body as received';
comment on column dash.incident.created_at is 'when it was created, by the source''s clock';
comment on column dash.incident.first_stored_at is 'when it was first stored';
comment on column dash.incident.last_stored_at is 'when its latest state was stored';

comment on column dash.tenant_health.state is 'awaiting-consent, active, needs-consent, needs-customer, paused, offboarding or removed';
comment on column dash.tenant_health.since is 'since when it is in this state';
comment on column dash.tenant_health.reason is 'what happened, in words; null when all is well';
comment on column dash.tenant_health.action is 'who must do what; a command in it can be typed as it stands';
comment on column dash.tenant_health.error_code is 'the other side''s code, such as AADSTS50173, invalid_grant or http-403';
comment on column dash.tenant_health.token_expires_at is 'when the refresh token ends unless it is used before; estimated';
comment on column dash.tenant_health.last_refresh_at is 'when an access token was last given for it';
comment on column dash.tenant_health.trace_id is 'the number that Microsoft gave the request that was refused, for its support';
comment on column dash.tenant_health.answered_at is 'when that answer was given';

comment on column dash.tenant_clock.clock is 'refresh-token, app-credential, access or consent';
comment on column dash.tenant_clock.ends_at is 'when it runs out; null where nothing does';
comment on column dash.tenant_clock.days_left is 'whole days until then; negative afterwards';
comment on column dash.tenant_clock.estimated is 'whether Microsoft did not say so itself';
comment on column dash.tenant_clock.words is 'what ends, and who must do what';

comment on column dash.partial_sight.since is 'when it was first noticed';
comment on column dash.partial_sight.compared is 'alerts of Defender for Endpoint of the last week that both sources have had time to deliver';
comment on column dash.partial_sight.missing is 'how many of them never came through mde-alerts';
comment on column dash.partial_sight.newest_at is 'when the newest of these was created';
comment on column dash.partial_sight.words is 'what that means, and who must do what';

comment on column dash.feed_health.last_success_at is 'when a poll last went through';
comment on column dash.feed_health.last_attempt_at is 'when one was last tried';
comment on column dash.feed_health.last_error is 'why the last one did not go through; null when it did';
comment on column dash.feed_health.watermark is 'the newest update stamp that is stored';
comment on column dash.feed_health.lag_seconds is 'how old the newest instant is up to which everything is stored; null before the first poll';
comment on column dash.feed_health.throttled_until is 'until when the source has told us to wait; null when it has not';
comment on column dash.feed_health.quarantined is 'records of it that could not be understood, counted since the beginning';
comment on column dash.feed_health.read_order is 'ascending: it answers in the order that is asked for; windows: it does not, and is read by stretches of time';

comment on column dash.gap.from_at is 'beginning of the stretch, by the source''s clock';
comment on column dash.gap.to_at is 'its end';
comment on column dash.gap.reason is 'why, in words';
comment on column dash.gap.healed_at is 'when it had been read after all; null while it has not';

comment on column dash.quarantine.seen_at is 'when it came';
comment on column dash.quarantine.reason is 'what is wrong with it';
comment on column dash.quarantine.raw_bytes is 'the record exactly as received; may be anything';

comment on column dash.reconciliation.asked_by is 'nightly or operator';
comment on column dash.reconciliation.started_at is 'when the comparison began';
comment on column dash.reconciliation.finished_at is 'when it ended';
comment on column dash.reconciliation.from_at is 'beginning of the stretch that was compared, by the source''s clock';
comment on column dash.reconciliation.to_at is 'its end';
comment on column dash.reconciliation.at_source is 'alerts that the source showed';
comment on column dash.reconciliation.stored is 'alerts that were stored';
comment on column dash.reconciliation.missing is 'shown by the source and not stored; stored by now';
comment on column dash.reconciliation.changed is 'shown in another version than stored; stored by now';
comment on column dash.reconciliation.only_stored is 'stored and no longer shown';
comment on column dash.reconciliation.missing_ids is 'the first of the ids that were missing';
comment on column dash.reconciliation.changed_ids is 'the first of the ids that had changed';
comment on column dash.reconciliation.only_stored_ids is 'the first of the ids that are only stored';

comment on column dash.reread.errand is 'backfill, short or long (rungs of the ladder), nightly or reconcile (comparisons), replay (of the quarantine)';
comment on column dash.reread.state is 'waiting, running, finished or cancelled';
comment on column dash.reread.from_at is 'beginning of the stretch, by the source''s clock';
comment on column dash.reread.to_at is 'its end; it is read from here backwards';
comment on column dash.reread.done is 'how far it is, from 0 to 1';
comment on column dash.reread.records is 'records read';
comment on column dash.reread.new_alerts is 'alerts that were new among them';
comment on column dash.reread.updated_alerts is 'alerts of which it brought a version that was not stored';
comment on column dash.reread.late is 'alerts that polling should have found and had missed';
comment on column dash.reread.started_at is 'when it began';
comment on column dash.reread.moved_at is 'when it last came further';
comment on column dash.reread.finished_at is 'when it ended';

comment on column dash.technique_day.technique is 'id of the MITRE technique, such as T1078.004';
comment on column dash.alert_day.status is 'as Microsoft Graph spells it';
comment on column dash.detection_day.true_positives is 'of these, classified as true positives';
comment on column dash.detection_day.false_positives is 'of these, classified as false positives';
comment on column dash.detection_day.resolved is 'of these, resolved';
comment on column dash.ingest_hour.le_seconds is 'upper bound of this step of the histogram; infinity for the last';
comment on column dash.ingest_hour.versions is 'versions stored within that time, those of lower steps included';
comment on column dash.ocsf_finding.created_at is 'when the alert was created; when it was first stored, where it does not say';
comment on column dash.ocsf_finding.class_uid is 'always 2004, Detection Finding';
