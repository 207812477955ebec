/* The clock and its text forms. */
#include "clock.h"
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static struct clock_page own_page;
static struct clock_page *page = &own_page;

void clock_use(struct clock_page *p) { page = p; }
struct clock_page *clock_current(void) { return page; }
bool clock_is_test(void) { return atomic_load(&page->frozen_us) != 0; }

static int64_t read_clock(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

int64_t clock_real_us(void) { return read_clock(CLOCK_MONOTONIC); }

int64_t clock_now_us(void)
{
	int64_t frozen = atomic_load_explicit(&page->frozen_us, memory_order_relaxed);
	return frozen ? frozen : read_clock(CLOCK_REALTIME) + atomic_load(&page->offset_us);
}

void clock_freeze(int64_t at_us)
{
	atomic_store(&page->frozen_us, at_us ? at_us : read_clock(CLOCK_REALTIME));
}

void clock_set(int64_t at_us)
{
	if (clock_is_test())
		atomic_store(&page->frozen_us, at_us);
	else
		atomic_store(&page->offset_us, at_us - read_clock(CLOCK_REALTIME));
	atomic_fetch_add(&page->moved, 1);
}

static char *clock_print(int64_t at_us, char *text, int64_t unit, int digits)
{
	int64_t s = at_us / US_PER_S, us = at_us % US_PER_S;
	if (us < 0)
		us += US_PER_S, s--;
	time_t t = (time_t)s;
	struct tm tm;
	gmtime_r(&t, &tm);
	snprintf(text, CLOCK_TEXT_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%0*uZ",
		(unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
		(unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		(unsigned)tm.tm_sec % 100, digits, (unsigned)(us / unit) % 1000000);
	return text;
}

char *clock_text(int64_t at_us, char text[CLOCK_TEXT_BYTES])
{
	return clock_print(at_us, text, 1000, 3);
}

char *clock_text_us(int64_t at_us, char text[CLOCK_TEXT_BYTES])
{
	return clock_print(at_us, text, 1, 6);
}

/* Reads exactly `n` digits. */
static bool digits(struct str *t, int n, int *ret_value)
{
	int v = 0;
	if (t->n < (size_t)n)
		return false;
	for (int i = 0; i < n; i++) {
		if (t->p[i] < '0' || t->p[i] > '9')
			return false;
		v = v * 10 + t->p[i] - '0';
	}
	t->p += n, t->n -= (size_t)n;
	*ret_value = v;
	return true;
}

static bool mark(struct str *t, const char *any)
{
	if (!t->n || !strchr(any, t->p[0]) || !t->p[0])
		return false;
	t->p++, t->n--;
	return true;
}

bool clock_parse(struct str t, int64_t *ret_us)
{
	struct tm tm = { 0 };
	int year, month, us = 0, offset_h = 0, offset_m = 0;
	if (!digits(&t, 4, &year) || !mark(&t, "-") || !digits(&t, 2, &month) || !mark(&t, "-") ||
	    !digits(&t, 2, &tm.tm_mday) || !mark(&t, "Tt ") || !digits(&t, 2, &tm.tm_hour) ||
	    !mark(&t, ":") || !digits(&t, 2, &tm.tm_min) || !mark(&t, ":") || !digits(&t, 2, &tm.tm_sec))
		return false;
	if (mark(&t, ".")) {
		int scale = 100000, n = 0;
		for (; t.n && t.p[0] >= '0' && t.p[0] <= '9'; t.p++, t.n--, n++, scale /= 10)
			us += (t.p[0] - '0') * scale;
		if (n == 0 || n > 9)
			return false;
	}
	char sign = t.n ? t.p[0] : 0;
	if (!mark(&t, "Zz")) {
		if (!mark(&t, "+-") || !digits(&t, 2, &offset_h) || !mark(&t, ":") || !digits(&t, 2, &offset_m))
			return false;
	}
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (t.n || year < 1970 || month < 1 || month > 12 || tm.tm_mday < 1 ||
	    tm.tm_mday > days[month - 1] - (month == 2 && !leap) || tm.tm_hour > 23 ||
	    tm.tm_min > 59 || tm.tm_sec > 60 || offset_h > 23 || offset_m > 59)
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	int64_t s = timegm(&tm), offset = (offset_h * 60 + offset_m) * 60;
	*ret_us = (s - (sign == '-' ? -offset : offset)) * US_PER_S + us;
	return true;
}
