-- The audit, and the proof that nobody touched it.

-- name: audit_list fresh
select * from audit_rows
where (:action::text is null or action = any (string_to_array(:action, ',')))
	and (:table_name::text is null or table_name = any (string_to_array(:table_name, ',')))
	and (:record_id::text is null or record_id = :record_id)
	and (:user_id::text is null or actor_id = :user_id)
	and (:created_after::timestamptz is null or created_at > :created_after)
	and (:created_before::timestamptz is null or created_at < :created_before)
	and (:after_us::text is null or (created_at, id) <
		(timestamptz 'epoch' + :after_us::float8 * interval '1 microsecond', :after_id::uuid))
order by created_at desc, id desc
limit :limit::bigint

-- name: audit_check
select * from audit_verify()
