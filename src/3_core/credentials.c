/* Finding and opening a tenant's credential. */
#include "credentials.h"
#include "core.sql.h"
#include "vault.h"

struct str credential_context(struct arena *arena, struct str owner_id, struct str key_id)
{
	return str_format(arena, "credential:%.*s:%.*s", STRF(owner_id), STRF(key_id));
}

struct str credential_service(struct str name) { return str_is(name, "google") ? STR("google_cloud") : name; }

enum fault credential_open(struct arena *arena, const struct scope *scope, const char *service, struct str id,
	struct credential_use *ret)
{
	struct rows r;
	struct tx tx;
	tenant_read(&tx, arena, scope);
	TRY(credential_load(&tx, (struct credential_load){ .service = str_of(service), .id = id }, &r));
	if (!r.count)
		return fault_raise(FAULT_NOT_FOUND, "No %s credential", service);
	ret->key_id = pg_col(arena, &r, 0, "key_id");
	ret->owner_id = pg_col(arena, &r, 0, "owner_id");
	TRY(json_read(arena, pg_col(arena, &r, 0, "settings"), &ret->settings));
	TRY(vault_reveal(arena, credential_context(arena, ret->owner_id, ret->key_id), pg_col(arena, &r, 0, "sealed"), &ret->secret));
	TRY(tenant_begin(&tx, arena, scope));	/* every use stands in the audit of its owner */
	credential_note_use_later(&tx, (struct credential_note_use){ .id = ret->key_id }, NULL);
	return tx_commit(&tx);
}
