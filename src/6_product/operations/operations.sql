-- Jobs as their tenant may see them.

-- name: operations_job
select id, client_id, kind, resource_type, resource_id, status, attempts, last_error, created_at, updated_at, finished_at
from job_get(:id::uuid)

-- name: tidy_keys
select tidy_idempotency(:most::integer) as removed

-- name: tidy_jobs
with old as (
	select id from jobs where finished_at < tl_now() - interval '7 days' limit :most::integer for update skip locked
)
delete from jobs j using old where j.id = old.id

-- name: tidy_inbound
with old as (
	select id from inbound_events where created_at < tl_now() - interval '30 days' limit :most::integer for update skip locked
)
delete from inbound_events i using old where i.id = old.id
