/* c-ares sockets watched by libuv. */
#include "dns.h"
#include "fiber.h"
#include "loop_uv.h"
#include "../0_base/die.h"
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>

#define SOCKETS 16

static ares_channel channel;
static uv_timer_t tick;
static struct {
	uv_poll_t *poll;
	ares_socket_t fd;
} watched[SOCKETS];

struct lookup {
	struct fiber *fiber;
	struct arena *arena;
	struct str *addresses;
	size_t count;
	bool done;
};

static void on_event(uv_poll_t *poll, int status, int events)
{
	ares_socket_t fd = (ares_socket_t)(intptr_t)poll->data;
	(void)status;
	ares_process_fd(channel, events & UV_READABLE ? fd : ARES_SOCKET_BAD,
		events & UV_WRITABLE ? fd : ARES_SOCKET_BAD);
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer;
	ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void free_poll(uv_handle_t *handle) { free(handle); }

static void on_socket(void *data, ares_socket_t fd, int readable, int writable)
{
	int slot = -1;
	(void)data;
	for (int i = 0; i < SOCKETS; i++)
		if (watched[i].poll && watched[i].fd == fd)
			slot = i;
	for (int i = 0; slot < 0 && i < SOCKETS; i++)
		if (!watched[i].poll)
			slot = i;
	if (slot < 0)
		return;
	if (!readable && !writable) {
		if (watched[slot].poll) {
			uv_poll_stop(watched[slot].poll);
			uv_close((uv_handle_t *)watched[slot].poll, free_poll);
			watched[slot].poll = NULL;
		}
		return;
	}
	if (!watched[slot].poll) {
		watched[slot].poll = must_alloc(sizeof(uv_poll_t));
		watched[slot].fd = fd;
		uv_poll_init(loop_uv(), watched[slot].poll, fd);
		watched[slot].poll->data = (void *)(intptr_t)fd;
	}
	uv_poll_start(watched[slot].poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0), on_event);
}

static void dns_start(void)
{
	struct ares_options options = { .sock_state_cb = on_socket, .timeout = 2000, .tries = 2 };
	if (channel)
		return;
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
	    ares_init_options(&channel, &options, ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES) != ARES_SUCCESS)
		bug("c-ares does not start");
	uv_timer_init(loop_uv(), &tick);
	uv_timer_start(&tick, on_tick, 500, 500);
	uv_unref((uv_handle_t *)&tick);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
	struct lookup *l = arg;
	(void)timeouts;
	for (int family = 0; status == ARES_SUCCESS && family < 2; family++)
		for (struct ares_addrinfo_node *n = answer->nodes; n && l->count < DNS_MOST; n = n->ai_next) {
			char text[INET6_ADDRSTRLEN];
			if (n->ai_family != (family ? AF_INET6 : AF_INET))
				continue;
			const void *raw = family ? (void *)&((struct sockaddr_in6 *)(void *)n->ai_addr)->sin6_addr
				: (void *)&((struct sockaddr_in *)(void *)n->ai_addr)->sin_addr;
			inet_ntop(n->ai_family, raw, text, sizeof text);
			l->addresses[l->count++] = str_copy(l->arena, str_of(text));
		}
	if (answer)
		ares_freeaddrinfo(answer);
	l->done = true;
	fiber_wake(l->fiber);
}

enum fault dns_lookup(struct arena *arena, struct str host, struct str ret_addresses[DNS_MOST],
	size_t *ret_count)
{
	unsigned char raw[16];
	struct str name = str_copy(arena, host);
	if (inet_pton(AF_INET, name.p, raw) == 1 || inet_pton(AF_INET6, name.p, raw) == 1) {
		ret_addresses[0] = name;
		*ret_count = 1;
		return OK;
	}
	dns_start();
	fiber_may_wait("a name look-up");
	struct lookup l = { .fiber = fiber_current(), .arena = arena, .addresses = ret_addresses };
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	ares_getaddrinfo(channel, name.p, NULL, &hints, on_answer, &l);
	while (!l.done)
		fiber_park();
	*ret_count = l.count;
	if (!l.count)
		return fault_raise(FAULT_CONNECT, "The name %.*s has no address", STRF(host));
	return OK;
}
