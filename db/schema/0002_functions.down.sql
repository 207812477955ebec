drop view event_rows, webhook_rows, client_rows, agent_rows, call_rows;
drop function call_owner, call_intend, call_rank, ledger_check, ledger_adjust, ledger_settle, ledger_hold, ledger_move,
	ledger_open, event_append, job_claim, job_get, job_note, job_finish, job_add, idem_begin, tidy_idempotency, user_seen, tl_enter_system, tl_enter;
