-- Who am I, and which clients are there.

-- name: identity_client
select * from client_rows where id = tl_client()

-- name: identity_list fresh
select * from client_rows
where (:q::text is null or name ilike '%' || :q || '%')
	and (:subscription_status::text is null or subscription_status = any (string_to_array(:subscription_status, ',')))
	and (:created_after::timestamptz is null or created_at > :created_after)
	and (:created_before::timestamptz is null or created_at < :created_before)
	and (:after_us::text is null or (created_at, id) <
		(timestamptz 'epoch' + :after_us::float8 * interval '1 microsecond', :after_id::uuid))
order by created_at desc, id desc
limit :limit::bigint
