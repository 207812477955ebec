/* Files carried in the binary; made by tools/embed. */
#ifndef TL_EMBEDDED_H
#define TL_EMBEDDED_H

#include <stddef.h>

struct embedded {
	const char *name, *text;
	size_t length;
};

extern const struct embedded schema_files[];	/* db/schema and db/tenant.sql, by name; ends with NULL */

#endif
