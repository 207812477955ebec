/* The slices, one row each. */
#include "product.h"
#include "6_product/agents/agents.h"
#include "6_product/billing/billing.h"
#include "6_product/calls/calls.h"
#include "6_product/identity/identity.h"
#include "6_product/inbound/inbound.h"
#include "6_product/insight/insight.h"
#include "6_product/knowledge/knowledge.h"
#include "6_product/operations/operations.h"
#include "6_product/telephony/telephony.h"
#include "6_product/tools/tools.h"
#include "6_product/uploads/uploads.h"
#include "6_product/voices/voices.h"
#include "6_product/webhooks/webhooks.h"
#include "agents.sql.h"
#include "artifacts.sql.h"
#include "audit.sql.h"
#include "billing.sql.h"
#include "calls.sql.h"
#include "clients.sql.h"
#include "core.sql.h"
#include "dial.sql.h"
#include "identity.sql.h"
#include "inbound.sql.h"
#include "insight.sql.h"
#include "keys.sql.h"
#include "knowledge.sql.h"
#include "manage.sql.h"
#include "operations.sql.h"
#include "privacy.sql.h"
#include "progress.sql.h"
#include "stats.sql.h"
#include "telephony.sql.h"
#include "tools.sql.h"
#include "tts.sql.h"
#include "uploads.sql.h"
#include "users.sql.h"
#include "voices.sql.h"
#include "webhooks.sql.h"

/* The busiest first: the router reads them in this order. */
const struct route *const product_routes[] = { calls_routes, manage_routes, agents_routes, tools_routes, voices_routes, knowledge_routes,
	documents_routes, telephony_routes, identity_routes, clients_routes, users_routes, keys_routes, tts_routes, uploads_routes,
	webhooks_routes, inbound_routes, billing_routes, insight_routes, stats_routes, csv_routes, stream_routes, audit_routes, privacy_routes,
		operations_routes, store_routes, NULL };

const struct job_kind *const product_jobs[] = { calls_jobs, agents_jobs, tools_jobs, voices_jobs, knowledge_jobs, telephony_jobs,
	billing_jobs, identity_jobs, uploads_jobs, webhooks_jobs, inbound_jobs, insight_jobs, operations_jobs, NULL };

const struct sql *const *const product_sql[] = { core_sql, identity_sql, clients_sql, users_sql, keys_sql, tts_sql, uploads_sql,
	voices_sql, knowledge_sql, tools_sql, agents_sql, telephony_sql, calls_sql, manage_sql, dial_sql, progress_sql, artifacts_sql,
	webhooks_sql,
	inbound_sql, billing_sql, insight_sql, stats_sql, audit_sql, privacy_sql, operations_sql, NULL };
