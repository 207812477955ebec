-- Events in the order they happened.

-- name: insight_events fresh
select id, seq, type, timestamp, client_id, resource, data from event_rows
where (:after::text is null or seq > (:after::text)::bigint)
	and (:type::text is null or type = any (string_to_array(:type, ',')))
	and (:resource_id::uuid is null or resource_id = :resource_id)
order by seq
limit :limit::bigint

-- name: insight_span
select coalesce((select last_seq from event_streams where client_id = tl_client()), 0) as last, coalesce(min(seq), 0) as oldest
from (select seq from events where client_id = tl_client() order by seq limit 1) x

-- name: insight_heads
select client_id, last_seq from stream_heads(:ids::text)
