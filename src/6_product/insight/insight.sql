-- Events in the order they happened.

-- name: insight_events fresh
select id, seq, type, timestamp, client_id, resource, data from event_rows
where (:after::text is null or seq > (:after::text)::bigint)
	and (:type::text is null or type = any (string_to_array(:type, ',')))
	and (:resource_id::uuid is null or resource_id = :resource_id)
order by seq
limit :limit::bigint
