-- Jobs as their tenant may see them.

-- name: operations_job
select id, client_id, kind, resource_type, resource_id, status, attempts, last_error, created_at, updated_at, finished_at
from job_get(:id::uuid)
