/* The till, Stripe (https://api.stripe.com/v1, version pinned): form bodies, JSON answers. Every POST bears an Idempotency-Key, so it may
 * be repeated: the same key gives the same object. */
#ifndef TL_STRIPE_H
#define TL_STRIPE_H

#include "exchange.h"
#include "../1_code/json.h"

struct till {
	struct str base_url, secret_key, request_id;
	bool live;
};

/* A test client's till is the sandbox's. UNAVAILABLE with reason not_configured when there is none. */
enum fault till_open(struct str mode, struct str request_id, struct till *ret) MUST_CHECK;

struct till_field {
	const char *name;	/* "metadata[client_id]" */
	struct str value;
};
/* FAULT_PROVIDER_ERROR: refused for good; FAULT_IO: may be tried again with the same key. */
enum fault till_post(struct arena *arena, const struct till *till, const char *path, const struct till_field *fields, size_t n,
	struct str idempotency_key, json_t **ret) MUST_CHECK;
enum fault till_get(struct arena *arena, const struct till *till, const char *path, json_t **ret) MUST_CHECK;

#endif
