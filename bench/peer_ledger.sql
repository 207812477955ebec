-- The peer of ./dev bench ledger: a ledger of pgledger's design (github.com/pgr0ss/pgledger), written by us after its description, because its
-- source is on no package archive: accounts with balance and version, locked in the order of their ids; a transfer writes one row and two
-- entries that tell version, balance before and after. Leaner than the original: bigint ids instead of generated text. With BENCH_PGLEDGER=FILE
-- the bench loads the original instead.
create table pgledger_accounts (
	id bigint generated always as identity primary key,
	name text not null,
	currency text not null,
	balance numeric not null default 0,
	version bigint not null default 0,
	allow_negative_balance boolean not null,
	allow_positive_balance boolean not null,
	created_at timestamptz not null default clock_timestamp(),
	updated_at timestamptz not null default clock_timestamp()
);
create table pgledger_transfers (
	id bigint generated always as identity primary key,
	from_account_id bigint not null references pgledger_accounts (id),
	to_account_id bigint not null references pgledger_accounts (id),
	amount numeric not null check (amount > 0),
	created_at timestamptz not null default clock_timestamp(),
	check (from_account_id <> to_account_id)
);
create index on pgledger_transfers (from_account_id);
create index on pgledger_transfers (to_account_id);
create table pgledger_entries (
	id bigint generated always as identity primary key,
	account_id bigint not null references pgledger_accounts (id),
	transfer_id bigint not null references pgledger_transfers (id),
	amount numeric not null,
	account_previous_balance numeric not null,
	account_current_balance numeric not null,
	account_version bigint not null,
	created_at timestamptz not null default clock_timestamp()
);
create index on pgledger_entries (account_id);
create index on pgledger_entries (transfer_id);

create function pgledger_create_account(p_name text, p_currency text, p_negative boolean default true, p_positive boolean default true)
returns table (id bigint) language sql as $$
	insert into pgledger_accounts (name, currency, allow_negative_balance, allow_positive_balance)
	values (p_name, p_currency, p_negative, p_positive) returning pgledger_accounts.id
$$;

create type transfer_request as (from_account_id bigint, to_account_id bigint, amount numeric);

create function pgledger_create_transfers(variadic p_requests transfer_request[]) returns setof pgledger_transfers language plpgsql as $$
declare
	r transfer_request;
	a pgledger_accounts;
	b pgledger_accounts;
	t pgledger_transfers;
begin
	perform from pgledger_accounts where id in (select from_account_id from unnest(p_requests) union select to_account_id from unnest(p_requests))
		order by id for update;
	foreach r in array p_requests loop
		insert into pgledger_transfers (from_account_id, to_account_id, amount) values (r.from_account_id, r.to_account_id, r.amount)
			returning * into t;
		update pgledger_accounts set balance = balance - r.amount, version = version + 1, updated_at = clock_timestamp()
			where id = r.from_account_id returning * into a;
		if a.balance < 0 and not a.allow_negative_balance then
			raise exception 'account % would be negative', a.name;
		end if;
		update pgledger_accounts set balance = balance + r.amount, version = version + 1, updated_at = clock_timestamp()
			where id = r.to_account_id returning * into b;
		if b.balance > 0 and not b.allow_positive_balance then
			raise exception 'account % would be positive', b.name;
		end if;
		if a.currency <> b.currency then
			raise exception 'cannot transfer between currencies';
		end if;
		insert into pgledger_entries (account_id, transfer_id, amount, account_previous_balance, account_current_balance, account_version)
		values (a.id, t.id, -r.amount, a.balance + r.amount, a.balance, a.version), (b.id, t.id, r.amount, b.balance - r.amount, b.balance, b.version);
		return next t;
	end loop;
end $$;
