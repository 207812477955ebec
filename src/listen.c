/* trunkline listen: a receiver that prints verified deliveries as they come. */
#include "listen.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "1_code/sign.h"
#include "2_io/http.h"
#include "2_io/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TOLERANCE_S 300

static struct str secret;

static const char *problem(struct http_request *r, struct str body)
{
	struct str id = http_header(r, "webhook-id"), stamp = http_header(r, "webhook-timestamp");
	struct str given = http_header(r, "webhook-signature"), want;
	int64_t at_s;
	if (!id.n || !given.n || !str_int(stamp, &at_s))
		return "the webhook headers are missing";
	if (!sign_webhook(r->arena, secret, id, stamp, body, &want))
		return "the secret is not whsec_ and base64";
	bool good = false;
	while (given.n)
		good |= sign_same(str_cut(&given, ' '), want);
	if (!good)
		return "the signature does not verify";
	int64_t away = clock_now_us() / US_PER_S - at_s;
	return (away < 0 ? -away : away) > TOLERANCE_S ? "the delivery is stale" : NULL;
}

static void handle(struct http_request *r)
{
	struct str body;
	if (http_read_body(r, 1 << 20, &body) != OK) {
		http_reply(r, 413, NULL, STR(""));
		return;
	}
	const char *why = problem(r, body);
	if (why)
		printf("refused: %s\n", why);
	else
		printf("%.*s\n", STRF(body));
	fflush(stdout);
	http_reply(r, why ? 401 : 204, NULL, STR(""));
}

static void stop(int number)
{
	(void)number;
	loop_stop();
}

int listen_run(int port, struct str given)
{
	secret = given;
	struct arena *arena = arena_make();
	struct str ignored;
	if (!sign_webhook(arena, secret, STR("x"), STR("1"), STR(""), &ignored))
		die("--secret must be whsec_ followed by base64, as the answer of POST /webhooks shows it");
	arena_drop(arena);
	loop_init();
	int fd = http_bind("127.0.0.1", port, &port);
	if (fd < 0)
		die("cannot bind port %d: %s", port, strerror(errno));
	loop_on_signal(SIGTERM, stop);
	loop_on_signal(SIGINT, stop);
	fprintf(stderr, "listening on http://127.0.0.1:%d\n", port);
	http_serve(fd, handle);
	loop_run();
	return 0;
}
