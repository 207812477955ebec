drop trigger audit on uploads;
drop trigger storage on call_artifacts;
drop function uploads_expire, uploads_stale, storage_admit;
drop table storage_used, uploads;
drop function storage_count, stored_bytes;
