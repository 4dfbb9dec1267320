-- What customers' words are is nobody's guess: the planner keeps no statistics of them.
--
-- Row security keeps rows apart, but one and the same statistics serve all who ask, and EXPLAIN shows what the planner makes of
-- them: whoever compares the estimates for two words learns which of them is frequent somewhere. No plan of ours needs them: what
-- is looked for by such a word is found by an index. A column that was analysed before keeps what is there until a superuser
-- deletes it (docs/how-to/read-only-role.md).

alter table tocsin.tenant
    alter column name set statistics 0,
    alter column portal_url set statistics 0;
alter table tocsin.alert
    alter column title set statistics 0,
    alter column detection_source set statistics 0,
    alter column category set statistics 0,
    alter column assigned_to set statistics 0;
alter table tocsin.alert_event
    alter column old_value set statistics 0,
    alter column new_value set statistics 0;
alter table tocsin.incident alter column title set statistics 0;
alter table tocsin.trouble
    alter column reason set statistics 0,
    alter column action set statistics 0;
alter table tocsin.feed alter column last_error set statistics 0;
alter table tocsin.gap alter column reason set statistics 0;
alter table tocsin.quarantine alter column reason set statistics 0;
alter table tocsin.digested
    alter column title set statistics 0,
    alter column skipped set statistics 0;
alter table tocsin.detection_day alter column title set statistics 0;
alter table tocsin.evidence
    alter column value set statistics 0,
    alter column role set statistics 0;
