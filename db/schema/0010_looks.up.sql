-- Which worker holds a job: the one that takes a dead worker's place goes on at once, instead of after the lease.
alter table jobs add worker text default current_setting('tl.worker', true);

create or replace function job_claim(p_most integer, p_share integer, p_lease_ms bigint, p_paused text) returns setof jobs language sql as $$
	with due as (
		(select id, client_id, run_at from (select id, client_id, run_at, kind from jobs
			where status = 'queued' and run_at <= tl_now() order by run_at limit 1000) q
			where kind <> all (string_to_array(p_paused, ',')))
		union all
		(select id, client_id, run_at from jobs where status = 'running' and lease_until <= tl_now() limit 200)
	), fair as (
		select id from (select id, run_at, row_number() over (partition by client_id order by run_at) n from due) d
		where n <= p_share order by run_at limit p_most
	), mine as (
		select j.id from jobs j where j.id in (select id from fair)
			and (j.status = 'queued' or (j.status = 'running' and j.lease_until <= tl_now()))
		for update skip locked
	)
	update jobs j set status = 'running', attempts = attempts + 1, generation = generation + 1,
		lease_until = tl_now() + p_lease_ms * interval '1 ms', worker = current_setting('tl.worker', true), updated_at = tl_now()
	from mine where j.id = mine.id returning j.*
$$;
