-- The audit, and the proof that nobody touched it.

-- name: audit_list list
select * from audit_rows
where (:action::text is null or action = any (string_to_array(:action, ',')))
	and (:table_name::text is null or table_name = any (string_to_array(:table_name, ',')))
	and (:record_id::text is null or record_id = :record_id)
	and (:user_id::text is null or actor_id = :user_id)

-- name: audit_check
select * from audit_verify()
