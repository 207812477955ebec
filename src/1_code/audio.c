/* Audio headers. Every length is checked against what is there before it is followed. */
#include "audio.h"
#include "../0_base/buf.h"

static uint32_t le(const char *p, int n)
{
	uint32_t v = 0;
	while (n--)
		v = v << 8 | (unsigned char)p[n];
	return v;
}

static uint64_t be(const char *p, int n)
{
	uint64_t v = 0;
	for (int i = 0; i < n; i++)
		v = v << 8 | (unsigned char)p[i];
	return v;
}

/* The chunk `name` of a RIFF file. */
static struct str riff_chunk(struct str b, const char *name)
{
	for (size_t at = 12; at + 8 <= b.n;) {
		size_t n = le(b.p + at + 4, 4), room = b.n - at - 8;
		if (memcmp(b.p + at, name, 4) == 0)
			return (struct str){ b.p + at + 8, n < room ? n : room };
		if (n > room)
			break;
		at += 8 + n + (n & 1);
	}
	return STR_NULL;
}

static bool wav(struct str b, struct audio *ret)
{
	if (b.n < 44 || memcmp(b.p, "RIFF", 4) != 0 || memcmp(b.p + 8, "WAVE", 4) != 0)
		return false;
	struct str format = riff_chunk(b, "fmt "), data = riff_chunk(b, "data");
	uint32_t rate = format.n >= 12 ? le(format.p + 8, 4) : 0;
	if (!rate || !data.p)
		return false;
	*ret = (struct audio){ "wav", (double)data.n / rate };
	return true;
}

/* Bytes and seconds of the MPEG layer III frame that begins here; 0 = none does. */
static size_t mp3_frame(const char *p, double *ret_seconds)
{
	static const int rates[] = { 44100, 48000, 32000 };
	static const int kbit1[] = { 0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320 };
	static const int kbit2[] = { 0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160 };
	unsigned h = (unsigned)be(p, 4), version = h >> 19 & 3, layer = h >> 17 & 3, kbit = h >> 12 & 15, rate = h >> 10 & 3;
	if (h >> 21 != 0x7ff || version == 1 || layer != 1 || kbit == 0 || kbit == 15 || rate == 3)
		return 0;
	int hz = rates[rate] >> (version == 3 ? 0 : version == 2 ? 1 : 2), samples = version == 3 ? 1152 : 576;
	*ret_seconds = (double)samples / hz;
	return (size_t)(samples / 8 * 1000 * (version == 3 ? kbit1 : kbit2)[kbit] / hz) + (h >> 9 & 1);
}

static bool mp3(struct str b, struct audio *ret)
{
	size_t at = 0;
	double seconds = 0, one;
	if (b.n >= 10 && memcmp(b.p, "ID3", 3) == 0)	/* its length has seven bits a byte */
		at = 10 + ((size_t)(b.p[6] & 127) << 21 | (size_t)(b.p[7] & 127) << 14 | (size_t)(b.p[8] & 127) << 7 | (size_t)(b.p[9] & 127));
	if (at + 4 > b.n || !mp3_frame(b.p + at, &one))
		return false;
	for (bool first = true; at + 4 <= b.n; first = false) {
		size_t n = mp3_frame(b.p + at, &one), part = n < b.n - at ? n : b.n - at;
		if (!n)
			break;
		bool index = first && (memmem(b.p + at, part, "Xing", 4) || memmem(b.p + at, part, "Info", 4));	/* a frame of facts, no sound */
		seconds += index ? 0 : one;
		at += n;
	}
	*ret = (struct audio){ "mp3", seconds };
	return true;
}

static bool flac(struct str b, struct audio *ret)
{
	if (b.n < 42 || memcmp(b.p, "fLaC", 4) != 0)
		return false;
	uint64_t rate = be(b.p + 18, 3) >> 4, samples = be(b.p + 21, 5) & 0xfffffffff;
	if (!rate)
		return false;
	*ret = (struct audio){ "flac", (double)samples / (double)rate };
	return true;
}

/* The granule of the last page, by the rate of the first: Vorbis says it, Opus always counts in 48 kHz. */
static bool ogg(struct str b, struct audio *ret)
{
	if (b.n < 58 || memcmp(b.p, "OggS", 4) != 0)
		return false;
	size_t head = 27 + (unsigned char)b.p[26];
	if (head + 20 > b.n)
		return false;
	uint64_t rate = memcmp(b.p + head, "OpusHead", 8) == 0 ? 48000 : memcmp(b.p + head, "\1vorbis", 7) == 0 ? le(b.p + head + 12, 4) : 0;
	uint64_t granule = 0;
	for (size_t at = b.n - 14; at > 0 && !granule; at--)
		if (memcmp(b.p + at, "OggS", 4) == 0)
			granule = (uint64_t)le(b.p + at + 10, 4) << 32 | le(b.p + at + 6, 4);
	if (!rate || granule == UINT64_MAX)
		return false;
	*ret = (struct audio){ "ogg", (double)granule / (double)rate };
	return true;
}

/* Walks boxes for moov, then mvhd. */
static struct str box(struct str b, const char *name)
{
	while (b.n >= 8) {
		uint64_t n = be(b.p, 4), head = 8;
		if (n == 1 && b.n >= 16)
			n = be(b.p + 8, 8), head = 16;
		if (n == 0 || n > b.n)
			n = b.n;
		if (n < head)
			return STR_NULL;
		if (memcmp(b.p + 4, name, 4) == 0)
			return (struct str){ b.p + head, (size_t)(n - head) };
		b = str_from(b, (size_t)n);
	}
	return STR_NULL;
}

static bool m4a(struct str b, struct audio *ret)
{
	if (b.n < 16 || memcmp(b.p + 4, "ftyp", 4) != 0)
		return false;
	struct str head = box(box(b, "moov"), "mvhd");
	bool wide = head.n && head.p[0] == 1;
	if (head.n < (wide ? 32u : 20u))
		return false;
	uint64_t scale = be(head.p + (wide ? 20 : 12), 4), length = be(head.p + (wide ? 24 : 16), wide ? 8 : 4);
	*ret = (struct audio){ "m4a", scale ? (double)length / (double)scale : 0 };
	return true;
}

/* EBML: Duration (0x4489) in units of TimecodeScale (0x2AD7B1, default a millisecond) within the first kilobytes. */
static bool webm(struct str b, struct audio *ret)
{
	double length = 0, scale = 1e6;
	if (b.n < 32 || memcmp(b.p, "\x1a\x45\xdf\xa3", 4) != 0)
		return false;
	size_t most = b.n < 65536 ? b.n : 65536;
	for (size_t at = 0; at + 12 <= most; at++) {
		unsigned char n = (unsigned char)b.p[at + 2], m = (unsigned char)b.p[at + 3];
		if (memcmp(b.p + at, "\x2a\xd7\xb1", 3) == 0 && m > 0x80 && m <= 0x88)
			scale = (double)be(b.p + at + 4, m & 15);
		if (memcmp(b.p + at, "\x44\x89", 2) == 0 && (n == 0x84 || n == 0x88)) {
			uint64_t bits = be(b.p + at + 3, n & 15);
			uint32_t narrow = (uint32_t)bits;
			float single;
			memcpy(&single, &narrow, 4);
			memcpy(&length, &bits, 8);
			length = n == 0x84 ? (double)single : length;
			break;
		}
	}
	double seconds = length * scale / 1e9;
	*ret = (struct audio){ "webm", seconds > 0 && seconds < 1e6 ? seconds : 0 };
	return true;
}

bool audio_read(struct str b, struct audio *ret)
{
	return wav(b, ret) || flac(b, ret) || ogg(b, ret) || webm(b, ret) || m4a(b, ret) || mp3(b, ret);
}

struct str audio_join_wav(struct arena *arena, const struct str *files, size_t n)
{
	size_t room = 44;
	struct str format = n ? riff_chunk(files[0], "fmt ") : STR_NULL;
	for (size_t i = 0; i < n; i++) {
		struct audio a;
		if (!wav(files[i], &a) || !str_eq(riff_chunk(files[i], "fmt "), format) || format.n < 16)
			return STR_NULL;
		room += riff_chunk(files[i], "data").n;
	}
	if (!n || room > UINT32_MAX)
		return STR_NULL;
	struct buf b = BUF_IN(arena, room + format.n);
	uint32_t sizes[] = { (uint32_t)(room + format.n - 16 - 8), (uint32_t)format.n, (uint32_t)(room - 44) };
	buf_add(&b, "RIFF", 4);
	for (int i = 0; i < 32; i += 8)
		buf_char(&b, (char)(sizes[0] >> i));
	buf_add(&b, "WAVEfmt ", 8);
	for (int i = 0; i < 32; i += 8)
		buf_char(&b, (char)(sizes[1] >> i));
	buf_str(&b, format);
	buf_add(&b, "data", 4);
	for (int i = 0; i < 32; i += 8)
		buf_char(&b, (char)(sizes[2] >> i));
	for (size_t i = 0; i < n; i++)
		buf_str(&b, riff_chunk(files[i], "data"));
	return buf_view(&b);
}
