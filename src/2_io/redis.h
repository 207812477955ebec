/* One Redis connection a process, by hiredis on the loop; the calling fiber waits. Only what the limiter needs: a script
 * with one key and whole numbers in and out. */
#ifndef TL_REDIS_H
#define TL_REDIS_H

#include "../0_base/fault.h"

/* redis://[:PASSWORD@]HOST[:PORT][/DB]; dies on another form. Connects at the first use and again after a loss. */
void redis_open(struct str url);
bool redis_configured(void);

/* EVALSHA, EVAL when the script is new there. Waits at most 100 ms; FAULT_IO when Redis does not answer by then. */
enum fault redis_eval(const char *script, struct str key, const int64_t *in, size_t n, int64_t *ret_out, size_t out_n) MUST_CHECK;

#endif
