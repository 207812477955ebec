drop function export_page(text, text, text, uuid, integer);
alter function export_page_people(text, text, text, uuid, integer) rename to export_page;
drop function number_owner(uuid), number_taken(text), copy_release(uuid, uuid), copy_posted(uuid, uuid, uuid), copy_claim(uuid, uuid), voices_adrift(), ledger_refund(text, text, text);
drop view agent_rows, voice_rows, kb_rows, kb_document_rows, tool_rows, number_rows;
drop table copy_claims, number_orders, phone_numbers, agent_knowledge_bases, agent_tools, tools, kb_documents, knowledge_bases, voice_samples;
alter table agents drop constraint agents_client_id_voice_id_fkey;
drop index agents_voice;
drop table voices;
alter table call_artifacts drop column sha256;
alter table calls drop constraint calls_number, drop column medium;
update calls set phone_number = 'web' where phone_number is null;
alter table calls alter column phone_number set not null;
alter table agents add column tools jsonb not null default '[]', add column knowledge_bases jsonb not null default '[]';

create view agent_rows with (security_invoker = true) as
	select id, client_id, name, description, voice_id, system_prompt, model, tools, knowledge_bases, settings, status,
		sync_status, revision, ultravox_agent_id, last_error, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from agents where deleted_at is null;
grant select on agent_rows to tl_app, tl_agency, tl_system, tl_ledger;

create or replace function client_forget(p_client uuid) returns setof uuid language plpgsql security definer as $$
begin
	if p_client is distinct from tl_client() then
		raise sqlstate 'TL404' using message = 'No such client';
	end if;
	update clients c set name = 'erased', email = 'erased+' || c.id, subscription_status = 'cancelled', settings = '{}',
		deleted_at = coalesce(c.deleted_at, tl_now()), updated_at = tl_now() where c.id = p_client;
	update api_keys k set revoked_at = coalesce(k.revoked_at, tl_now()), is_active = false,
		sealed = case when k.service = 'ultravox' then k.sealed end, updated_at = tl_now() where k.client_id = p_client;
	perform user_forget(u.id) from users u where u.client_id = p_client;
	delete from webhook_endpoints w where w.client_id = p_client;
	return query update agents a set name = 'erased', description = null, system_prompt = 'erased', settings = '{}',
		deleted_at = coalesce(a.deleted_at, tl_now()), updated_at = tl_now() where a.client_id = p_client returning a.id;
end $$;

create or replace function client_purge(p_client uuid, p_most integer) returns boolean language plpgsql security definer as $$
declare
	n integer;
begin
	if p_client is distinct from tl_client() then
		raise sqlstate 'TL404' using message = 'No such client';
	end if;
	delete from calls c where c.client_id = p_client and c.id in (select o.id from calls o where o.client_id = p_client limit p_most);
	get diagnostics n = row_count;
	if n = 0 then
		delete from events e where e.client_id = p_client and e.seq in (select o.seq from events o where o.client_id = p_client limit p_most);
		get diagnostics n = row_count;
	end if;
	if n = 0 then
		update audit_log l set diff = null where l.client_id = p_client and l.diff is not null and l.id in
			(select o.id from audit_log o where o.client_id = p_client and o.diff is not null limit p_most);
		get diagnostics n = row_count;
	end if;
	if n = 0 then
		delete from agents a where a.client_id = p_client;
		delete from idempotency_keys i where i.client_id = p_client;
		delete from inbound_events i where i.client_id = p_client;
		update api_keys k set sealed = null, key_name = 'erased ' || k.id where k.client_id = p_client and k.key_name not like 'erased %';
		update credit_transactions t set description = null where t.client_id = p_client and t.description is not null;
	end if;
	return n > 0;
end $$;

create or replace function uploads_expire(p_ids uuid[]) returns void language plpgsql security definer as $$
begin
	update uploads u set status = 'expired', updated_at = tl_now() where u.id = any (p_ids) and u.status = 'pending_upload';
end $$;
