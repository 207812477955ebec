/* libuv for the files of this floor only; nobody above includes it. */
#ifndef TL_LOOP_UV_H
#define TL_LOOP_UV_H

#include <uv.h>

uv_loop_t *loop_uv(void);

#endif
