-- Statements of the house itself: doors, keys, idempotency, jobs, events.

-- name: door_tenant
select tl_enter(:agency::uuid, :client::uuid, :user::uuid, :key::uuid, :now::text, :request::text, :source::text) as limits

-- name: door_system
select tl_enter_system(:agency::text, :client::text, :now::text, :request::text)

-- name: door_begin
begin

-- name: door_commit
commit

-- name: door_rollback
rollback

-- name: vault_select
select sealed from vault where name = :name::text

-- name: vault_upsert
insert into vault (name, sealed) values (:name::text, :sealed::bytea)
on conflict (name) do update set sealed = case when :keep::boolean then vault.sealed else excluded.sealed end

-- name: principal_find
select * from principal_find(:issuer::text, :subject::text, :agency::uuid, :client::uuid)

-- name: principal_bind
select principal_bind(:id::uuid, :issuer::text, :subject::text, :agency::uuid, :client::uuid, :role::text, :email::text,
	:name::text, :verified::boolean, :only::uuid, :now::text) as state

-- name: client_of
select client_is_of(:client::uuid, :agency::uuid) as theirs

-- name: key_find
select * from key_find(:prefix::text)

-- name: principal_touch
select principal_touch(:user::uuid, :key::uuid, :now::text)

-- name: credential_load
select key_id, owner_id, sealed, settings from credential_find(:service::text, :id::uuid)

-- name: credential_note_use
select credential_used(:id::uuid)

-- name: credential_there
select exists (select from credential_find(:service::text, null)) as there

-- name: rate_draw
select granted, remaining, wait_us from rate_slice(:key::text, :rate::bigint, :burst::bigint, :most::bigint)

-- The lock says whether the key is running now, the row what became of it. The row may lag behind the lock by one
-- commit: then the insert below meets it, and the request is judged again.
-- name: idem_judge
select case when not l.mine then 'running' when k.scope_id is null then 'new' when k.expires_at <= tl_now() then 'expired'
		when k.fingerprint <> :fingerprint::bytea then 'reused'
		when k.state = 'in_flight' and k.lease_until > tl_now() then 'running' else 'replay' end as state, k.status_code, k.body_sealed
from (select pg_try_advisory_xact_lock(hashtextextended(:scope::uuid::text || ':' || :key::text, 0)) as mine offset 0) l
left join idempotency_keys k on k.scope_id = :scope::uuid and k.key = :key

-- name: idem_drop
delete from idempotency_keys where scope_id = :scope::uuid and key = :key::text and expires_at <= tl_now()

-- name: idem_put
insert into idempotency_keys (scope_id, key, agency_id, client_id, fingerprint, state, status_code, body_sealed,
	lease_until, expires_at)
values (:scope::uuid, :key::text, tl_agency(), tl_client(), :fingerprint::bytea, :state::text, :status::integer,
	:body::bytea, tl_now() + :lease_ms::bigint * interval '1 ms', tl_now() + interval '7 days')

-- name: idem_finish
update idempotency_keys set state = 'done', status_code = :status::integer, body_sealed = :body::bytea
where scope_id = :scope::uuid and key = :key::text and state = 'in_flight' and fingerprint = :fingerprint::bytea

-- name: idem_forget
delete from idempotency_keys where scope_id = :scope::uuid and key = :key::text and state = 'in_flight'
	and fingerprint = :fingerprint::bytea

-- name: job_insert
select job_add(:id::uuid, :queue::text, :kind::text, :payload::jsonb, :resource_type::text, :resource_id::uuid,
	:run_at::timestamptz, :lease_ms::bigint, :dedupe::text)

-- name: job_end
select job_finish(:id::uuid, :generation::bigint, :status::text, :run_at::timestamptz, :payload::jsonb, :error::text)

-- name: jobs_claim
select id, agency_id, client_id, kind, payload, resource_type, resource_id, request_id, attempts, generation
from job_claim(:most::integer, :share::integer, :lease_ms::bigint, :paused::text)

-- name: job_mark
select job_note(:id::uuid, :generation::bigint, :payload::jsonb)

-- name: jobs_renew
update jobs j set lease_until = tl_now() + :lease_ms::bigint * interval '1 ms'
from unnest(:ids::uuid[], :generations::bigint[]) m (id, generation)
where j.id = m.id and j.generation = m.generation and j.status = 'running'

-- name: jobs_inherit
update jobs j set status = 'queued', lease_until = null, updated_at = tl_now(),
	run_at = tl_now() + (power(2, least(j.attempts, 10) - 1) - 1) * interval '1 second'
where j.status = 'running' and j.worker = current_setting('tl.worker')

-- name: jobs_release
update jobs j set status = 'queued', lease_until = null
from unnest(:ids::uuid[], :generations::bigint[]) m (id, generation)
where j.id = m.id and j.generation = m.generation and j.status = 'running'

-- name: jobs_look
with sooner as (
	update jobs set run_at = tl_now(), updated_at = tl_now() where resource_id = any (:ids::uuid[]) and status = 'queued'
		and kind in ('call.watch', 'call.lookup', 'voice.push') and run_at > tl_now() and updated_at <= tl_now() - interval '2 seconds'
)
insert into jobs (id, agency_id, client_id, queue, kind, payload, resource_type, resource_id, status, run_at, dedupe_key)
select gen_random_uuid(), :agency_id::uuid, m.client, 'q-artifacts-sync', :kind::text, '{"look": true}', :resource_type::text, m.id,
	'queued', tl_now(), 'look:' || m.id
from unnest(:ids::uuid[], :clients::uuid[]) m (id, client) where :kind <> ''
on conflict (dedupe_key) where status in ('queued', 'running') do nothing

-- name: jobs_next_due
select (select count(*) from jobs where status = 'queued' and run_at <= tl_now()) as due,
	(select count(*) from jobs where status = 'running') as running,
	(select min(run_at) from jobs where status = 'queued' and run_at > tl_now() and not payload @> '{"idle": true}') as next_at

-- name: event_put
select event_append(:id::uuid, :type::text, :resource_type::text, :resource_id::uuid, :data::jsonb) as seq

-- name: clock_save
insert into clock_state (frozen_us) values (:at_us::bigint) on conflict (one) do update set frozen_us = excluded.frozen_us

-- name: ready_check
select 1 as one

-- name: claim_take
select busy, posted, credential_id from copy_claim(:resource_id::uuid, :job_id::uuid)

-- name: claim_posted
select copy_posted(:resource_id::uuid, :job_id::uuid, :credential_id::uuid)

-- name: claim_release
select copy_release(:resource_id::uuid, :job_id::uuid)
