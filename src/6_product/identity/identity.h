/* Who asks, which clients and users there are, and the keys they hold. */
#ifndef TL_IDENTITY_H
#define TL_IDENTITY_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route identity_routes[], clients_routes[], users_routes[], keys_routes[], tts_routes[];
extern const struct job_kind identity_jobs[];
extern const struct shape client_shape, api_key_shape;

/* What `settings` and `limits` of a client may hold; a fault about the field that breaks a rule. */
enum fault client_settings_check(struct req *req, struct str settings) MUST_CHECK;
enum fault client_limits_check(struct req *req, struct str limits) MUST_CHECK;

/* Both paths of a route: /auth/... and its alias. */
#define TWICE(row, path) row("/auth" path), row(path)

#endif
