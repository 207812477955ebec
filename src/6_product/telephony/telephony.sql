-- Telephone numbers.

-- name: numbers_client
select c.mode, exists (select from credential_find('telnyx', null)) as has_credential from clients c

-- name: numbers_insert
insert into phone_numbers (id, agency_id, client_id, phone_number, label, origin, status)
values (:id::uuid, tl_agency(), tl_client(), :number::text, :label::text, :origin::text, 'pending')
on conflict (client_id, phone_number) where status in ('pending', 'active') do nothing
returning id

-- name: numbers_known
select id from phone_numbers where phone_number = :number::text and status in ('pending', 'active')

-- name: orders_insert
insert into number_orders (id, agency_id, client_id, number_id, status) values (:id::uuid, tl_agency(), tl_client(), :number_id::uuid, 'pending')

-- name: numbers_get
select * from number_rows where id = :id::uuid

-- name: numbers_list list
select * from number_rows
where (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:agent_id::uuid is null or agent_id = :agent_id or outbound_agent_id = :agent_id)

-- name: numbers_label
update phone_numbers set label = :label::text, updated_at = tl_now() where id = :id::uuid returning id

-- name: numbers_lock
select n.status, n.origin, n.agent_id, n.outbound_agent_id, n.phone_number, n.releasing from phone_numbers n where n.id = :id::uuid for update

-- name: numbers_agent
select status from agents where id = :id::uuid and deleted_at is null for share

-- name: numbers_assign
update phone_numbers set agent_id = case when :inbound::boolean then :agent_id::uuid else agent_id end,
	outbound_agent_id = case when :inbound then outbound_agent_id else :agent_id end, sync_status = 'pending', updated_at = tl_now()
where id = :id::uuid

-- name: numbers_release
update phone_numbers set releasing = true, agent_id = null, outbound_agent_id = null, sync_status = 'pending', updated_at = tl_now()
where id = :id::uuid

-- name: numbers_load
select (select mode from clients) as mode, n.phone_number, n.status, n.origin, n.agent_id, n.outbound_agent_id, n.provider_number_id, n.credential_id,
	n.releasing, n.created_at, o.id as order_id, o.provider_order_id
from phone_numbers n left join number_orders o on o.client_id = n.client_id and o.number_id = n.id
where n.id = :id::uuid

-- name: orders_placed
update number_orders set provider_order_id = :provider_id::text, updated_at = tl_now() where number_id = :number_id::uuid

-- name: orders_end
update number_orders set status = :status::text, updated_at = tl_now() where number_id = :number_id::uuid and status = 'pending'

-- Nothing when somebody else here has the number already.
-- name: numbers_active
update phone_numbers set status = 'active', provider_number_id = :provider_id::text, credential_id = :credential_id::uuid,
	features = coalesce(:features::jsonb, features), sync_status = 'synced', last_error = null, updated_at = tl_now()
where id = :id::uuid and status = 'pending' and not number_taken(phone_number)
returning id

-- name: numbers_synced
update phone_numbers set sync_status = :status::text, last_error = :error::text, updated_at = tl_now() where id = :id::uuid

-- name: numbers_end
update phone_numbers set status = :status::text, sync_status = case :status when 'failed' then 'failed' else 'synced' end, releasing = false,
	last_error = :error::text, updated_at = tl_now()
where id = :id::uuid and (status = 'pending' or (status = 'active' and :status = 'released'))
returning id

-- name: numbers_owner
select client_id, agency_id from number_owner(:id::uuid)

-- name: numbers_forget
delete from phone_numbers where id = :id::uuid and origin = 'import' and status = 'pending'
