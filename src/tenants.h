/* agency create, client create, token. They print to stdout and die with a sentence. */
#ifndef TL_TENANTS_H
#define TL_TENANTS_H

#include "0_base/str.h"

struct tenant_args {
	struct str name, email, agency, client, role, limits, mode, subject;
	int64_t credits, ttl_s;
};

void tenants_agency_create(const struct tenant_args *args);
void tenants_client_create(const struct tenant_args *args);
int tenants_audit_verify(const struct tenant_args *args);	/* prints each chain; 1 when one is broken */
void tenants_token(const struct tenant_args *args);

#endif
