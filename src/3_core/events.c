/* The list of events and the one way to write one. */
#include "events.h"
#include "core.sql.h"
#include "../0_base/die.h"
#include "../1_code/uuid.h"

static const char *const types[] = {
#define EVENT(type, what) type,
#include "../../tbl/events.def"
#undef EVENT
};

bool event_known(struct str name)
{
	if (str_is(name, "*"))
		return true;
	bool area = str_ends(name, ".*");
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (area ? strncmp(types[i], name.p, name.n - 1) == 0 : str_is(name, types[i]))
			return true;
	return false;
}

void event_emit(struct tx *tx, const char *type, const char *resource_type, struct str resource_id, struct str data)
{
	bug_unless(event_known(str_of(type)));
	event_put_later(tx, (struct event_put){ .id = uuid_make(tx->arena), .type = str_of(type),
		.resource_type = str_of(resource_type), .resource_id = resource_id, .data = data }, NULL);
	tx->wakes_jobs = true;
}
