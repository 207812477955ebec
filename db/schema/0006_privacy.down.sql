drop view privacy_rows;
drop function export_page, retention_start, retention_mark, retention_audit, retention_events, retention_days, audit_forget, client_purge,
	client_forget, user_forget, inbound_forget, calls_mask;
alter table calls drop column archived_at, drop column erasure_id;
drop table retention_marks, privacy_requests;
