-- Who am I.

-- name: identity_client
select * from client_rows where id = tl_client()
