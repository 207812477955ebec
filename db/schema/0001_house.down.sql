drop table clock_state, vault, inbound_events, credit_transactions, ledger_entries, ledger_accounts, credit_holds,
	credit_accounts, idempotency_keys, jobs, webhook_attempts, webhook_deliveries, webhook_endpoints, events,
	event_streams, call_artifacts, call_transitions, calls, agents, users, clients, agencies;
drop domain call_status, call_outcome, call_direction, job_status, hold_status, idempotency_state;
