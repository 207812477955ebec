-- Webhook endpoints and their deliveries.

-- name: webhooks_insert
insert into webhook_endpoints (id, agency_id, client_id, url, event_types, secret_sealed, enabled, description, retry_config)
values (:id::uuid, tl_agency(), tl_client(), :url::text,
	(select array_agg(t) from jsonb_array_elements_text(:event_types::jsonb) t), :secret::bytea, :enabled::boolean,
	:description::text, coalesce(:retry_config::jsonb, '{}'))

-- name: webhooks_get
select * from webhook_rows where id = :id::uuid

-- name: webhooks_list list
select * from webhook_rows
where (:enabled::text is null or enabled = (:enabled = 'true'))

-- name: webhooks_delete
delete from webhook_endpoints where id = :id::uuid returning id

-- name: deliver_load
select d.status, d.attempt, d.created_at, w.url, w.secret_sealed, w.enabled, w.retry_config, w.failing_since, e.id as event_id,
	e.type, e.created_at as event_at, e.data
from webhook_deliveries d
join webhook_endpoints w on w.client_id = d.client_id and w.id = d.endpoint_id
join events e on e.client_id = d.client_id and e.id = d.event_id
where d.id = :id::uuid

-- name: deliver_attempt
insert into webhook_attempts (agency_id, client_id, delivery_id, n, at, duration_ms, response_code, response_body, error)
values (tl_agency(), tl_client(), :id::uuid, :n::integer, tl_now(), :duration_ms::integer, nullif(:code::integer, 0),
	:body::text, :error::text)
on conflict do nothing

-- name: deliver_outcome
update webhook_deliveries set status = :status::text, attempt = :n::integer, next_attempt_at = :next::timestamptz,
	response_code = nullif(:code::integer, 0), error_message = :error::text,
	delivered_at = case when :status = 'delivered' then tl_now() end, updated_at = tl_now()
where id = :id::uuid

-- name: deliver_health
update webhook_endpoints w set
	failing_since = case when :good::boolean then null else coalesce(w.failing_since, tl_now()) end,
	enabled = w.enabled and :disable::text is null, disabled_reason = coalesce(:disable, w.disabled_reason)
from webhook_deliveries d
where d.id = :id::uuid and w.id = d.endpoint_id
	and (:disable is not null or (w.failing_since is null) <> :good)
returning w.id
