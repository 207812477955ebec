/* Broken invariants. bug() is for states the program cannot be in: the process dies loudly,
 * the master starts another, leases expire, jobs resume. Refusals are faults, not bugs. */
#ifndef TL_DIE_H
#define TL_DIE_H

_Noreturn void bug_at(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define bug(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
#define bug_unless(x) do { if (!(x)) bug("%s", #x); } while (0)

/* A start-up error a person must mend: prints "trunkline: <message>" and exits with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Kill points make crash tests exact. kill_point("x") ends the process with SIGKILL on the
 * n-th visit when kill_point_arm("x:n") was called; otherwise it costs one comparison. */
void kill_point_arm(const char *name_colon_visit);
void kill_point_hit(const char *name);
extern const char *kill_point_name;
#define kill_point(name) do { if (kill_point_name) kill_point_hit(name); } while (0)

#endif
