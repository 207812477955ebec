/* Dying on purpose: bugs, start-up errors and the kill points of crash tests. */
#include "die.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *kill_point_name;
static char armed[96];
static long visits_left;

void bug_at(const char *file, int line, const char *format, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	fprintf(stderr, "{\"level\":\"fatal\",\"message\":\"bug\",\"at\":\"%s:%d\",\"what\":\"%s\"}\n",
		file, line, text);
	abort();
}

void die(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	fputs("trunkline: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

void kill_point_arm(const char *spec)
{
	const char *colon = strrchr(spec, ':');
	if (!*spec)
		return;
	if (!colon || (size_t)(colon - spec) >= sizeof armed || atol(colon + 1) < 1)
		die("kill_at must be NAME:VISIT, for example call.intent_committed:17");
	memcpy(armed, spec, (size_t)(colon - spec));
	visits_left = atol(colon + 1);
	kill_point_name = armed;
}

void kill_point_hit(const char *name)
{
	if (strcmp(name, armed) != 0 || --visits_left > 0)
		return;
	fprintf(stderr, "{\"level\":\"fatal\",\"message\":\"kill point\",\"point\":\"%s\"}\n", name);
	kill(getpid(), SIGKILL);
}
