/* Blocks by prefix length. */
#include "cidr.h"
#include <arpa/inet.h>
#include <stdio.h>

/* 16 bytes, IPv4 in its mapped form; the number of bits the text's own prefix starts behind, -1 = no address. */
static int address_read(struct str text, unsigned char out[16])
{
	static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	char buffer[64];
	if (!text.n || text.n >= sizeof buffer)
		return -1;
	snprintf(buffer, sizeof buffer, "%.*s", STRF(text));
	memcpy(out, mapped, sizeof mapped);
	if (inet_pton(AF_INET, buffer, out + 12) == 1)
		return 96;
	return inet_pton(AF_INET6, buffer, out) == 1 ? 0 : -1;
}

static bool block_read(struct str block, unsigned char out[16], int *ret_bits)
{
	struct str bits = block, address = str_cut(&bits, '/');
	int64_t n;
	int behind = address_read(str_trim(address), out);
	if (behind < 0)
		return false;
	*ret_bits = 128;
	if (!memchr(block.p, '/', block.n))
		return true;
	if (!str_int(str_trim(bits), &n) || n < 0 || n > 128 - behind)
		return false;
	*ret_bits = behind + (int)n;
	return true;
}

bool cidr_valid(struct str block)
{
	unsigned char ignored[16];
	int bits;
	return block_read(str_trim(block), ignored, &bits);
}

bool cidr_listed(struct str blocks, struct str address)
{
	unsigned char who[16], block[16];
	int bits;
	if (address_read(address, who) < 0)
		return false;
	while (blocks.n) {
		if (!block_read(str_trim(str_cut(&blocks, ',')), block, &bits))
			continue;
		int bytes = bits / 8, rest = bits % 8;
		if (memcmp(who, block, (size_t)bytes) == 0 && (!rest || (who[bytes] ^ block[bytes]) >> (8 - rest) == 0))
			return true;
	}
	return false;
}
