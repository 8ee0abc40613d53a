/* The core of the codec: every answer about random and damaged headers stays inside the bytes.
 *
 * Frames lie in memory of exactly their size, so that the sanitizers see one byte too many. */
#include <stdio.h>
#include <stdlib.h>

#include "wire.c"

#define CHECK(that)                                                                             \
    do {                                                                                        \
        if (!(that)) {                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #that);                          \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

static uint64_t random_state = 1;

static uint32_t below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

/* A message of up to `most` buffers; the caller frees it. */
static uint8_t *build(unsigned most, size_t *length, uint32_t *lengths, uint32_t *count)
{
    struct wire_header header = {1 + below(most), 0, WIRE_MAGIC, below(1000), 5, 3};
    size_t total = wire_start(header.bufcount);
    for (uint32_t at = 0; at < header.bufcount; at++) {
        lengths[at] = below(4) ? below(60) : 0;
        total += wire_align(lengths[at]);
    }
    uint8_t *bytes = malloc(total);
    CHECK(bytes != NULL);
    memset(bytes, 0xaa, total);
    wire_put_header(bytes, &header, lengths);
    *length = total;
    *count = header.bufcount;
    return bytes;
}

static void touch(const uint8_t *bytes, size_t length, const struct wire_message *found)
{
    size_t sum = 0, end = wire_start(found->header.bufcount);
    CHECK(found->header.bufcount >= 1 && found->header.bufcount <= WIRE_BUFFERS);
    for (uint32_t at = 0; at < found->header.bufcount; at++) {
        struct wire_buffer one = found->buffers[at];
        CHECK(one.offset >= end && one.offset % 8 == 0 && one.offset + one.length <= length);
        for (size_t byte = 0; byte < one.length; byte++) {
            sum += bytes[one.offset + byte];
        }
        sum += wire_text(bytes + one.offset, one.length);
        sum += wire_zero(bytes + one.offset, one.length);
        end = one.offset + one.length;
    }
    CHECK(sum < SIZE_MAX);
}

static void whole_and_damaged(void)
{
    uint32_t lengths[WIRE_BUFFERS], count;
    struct wire_message found;
    size_t length;
    uint8_t *bytes = build(WIRE_BUFFERS, &length, lengths, &count);
    CHECK(wire_split(bytes, length, &found));
    CHECK(found.header.bufcount == count && found.header.flags == 3);
    for (uint32_t at = 0; at < count; at++) {
        CHECK(found.buffers[at].length == lengths[at]);
    }
    touch(bytes, length, &found);
    for (int round = 0; round < 20; round++) {
        size_t cut = below(3) ? length : below((uint32_t)length + 1);
        uint8_t *damaged = malloc(cut + (cut == 0));
        CHECK(damaged != NULL);
        memcpy(damaged, bytes, cut);
        for (uint32_t times = below(4); cut > 0 && times > 0; times--) {
            uint32_t reach = cut < 64 ? (uint32_t)cut : 64;
            damaged[below(reach)] = below(2) ? 0xff : (uint8_t)below(256);
        }
        if (wire_split(damaged, cut, &found)) {
            touch(damaged, cut, &found);
        }
        free(damaged);
    }
    free(bytes);
}

static void integers(void)
{
    uint8_t bytes[8];
    for (unsigned width = 1; width <= 8; width *= 2) {
        uint64_t value = ((uint64_t)below(UINT32_MAX) << 33 | below(UINT32_MAX)) ^ below(2);
        uint64_t kept = width == 8 ? value : value & (((uint64_t)1 << (8 * width)) - 1);
        wire_store(bytes, width, value);
        CHECK(wire_load(bytes, width) == kept && wire_fits(kept, width));
        int64_t whole = wire_load_signed(bytes, width);
        CHECK(wire_fits_signed(whole, width));
        wire_store(bytes, width, (uint64_t)whole);
        CHECK(wire_load(bytes, width) == kept);
        CHECK(width == 8 || !wire_fits((uint64_t)1 << (8 * width), width));
        CHECK(width == 8 || !wire_fits_signed((int64_t)1 << (8 * width - 1), width));
    }
}

static void tails(void)
{
    uint64_t count = below(2) ? below(10) : UINT64_MAX - below(10), asked = count;
    size_t left = below(100), step = 1 + below(24), least = below(3);
    if (wire_tail(left, step, least, true, &count)) {
        CHECK(count == asked && count >= least && count * step <= left);
    } else {
        CHECK(asked < least || asked > left / step);
    }
    bool fits = wire_tail(left, step, least, false, &count);
    CHECK(fits == (left % step == 0 && left / step >= least));
}

static void places(void)
{
    CHECK(wire_inside(0, 0, 0) && wire_inside(5, 5, 10) && !wire_inside(6, 5, 10));
    CHECK(!wire_inside(SIZE_MAX, 2, 10) && !wire_inside(2, SIZE_MAX, 10));
    CHECK(wire_align(0) == 0 && wire_align(1) == 8 && wire_align(8) == 8);
    CHECK(wire_start(1) == 40 && wire_start(2) == 40 && wire_start(3) == 48);
    CHECK(wire_zero((const uint8_t *)"\0\0\0\0\0\0\0\0\0", 9));
    CHECK(!wire_zero((const uint8_t *)"a", 1));
}

int main(void)
{
    places();
    for (int round = 0; round < 20000; round++) {
        whole_and_damaged();
        integers();
        tails();
    }
    printf("wire: headers, integers, counts\n");
    return 0;
}
