/* The rules of the wire that need no Python: integers in little endian, where a message's buffers
 * lie, how many elements follow a struct. Every length, count and offset is checked here before
 * anything is read by it.
 *
 * Does not know any struct or message of Lustre but the header of a lustre_msg. Stands for the
 * checks of ptlrpc/pack_generic.c. Nothing here allocates.
 */
#ifndef LABSIM_WIRE_H
#define LABSIM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_MAGIC 0x0bd00bd3u
#define WIRE_HEADER 32u
#define WIRE_REQUEST_BODY 184u
#define WIRE_REPLY_BODY 152u
#define WIRE_BUFFERS 31u /* a message with more is refused */

/* ---- integers ---- */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "the codec is written for little-endian machines; LABSIM_PURE=1 runs on others"
#endif

/* `width` is 1, 2, 4 or 8 in all of these. */
static inline uint64_t wire_load(const uint8_t *at, unsigned width)
{
    uint64_t value64;
    uint32_t value32;
    uint16_t value16;
    switch (width) {
    case 1:
        return *at;
    case 2:
        memcpy(&value16, at, 2);
        return value16;
    case 4:
        memcpy(&value32, at, 4);
        return value32;
    default:
        memcpy(&value64, at, 8);
        return value64;
    }
}

static inline void wire_store(uint8_t *at, unsigned width, uint64_t value)
{
    switch (width) {
    case 1:
        *at = (uint8_t)value;
        break;
    case 2:
        memcpy(at, &value, 2);
        break;
    case 4:
        memcpy(at, &value, 4);
        break;
    default:
        memcpy(at, &value, 8);
    }
}

static inline int64_t wire_load_signed(const uint8_t *at, unsigned width)
{
    uint64_t value = wire_load(at, width);
    uint64_t sign = (uint64_t)1 << (8 * width - 1);
    return (int64_t)((value ^ sign) - sign);
}

/* Whether an integer of that width can hold the value. */
static inline bool wire_fits(uint64_t value, unsigned width)
{
    return width == 8 || value >> (8 * width) == 0;
}

static inline bool wire_fits_signed(int64_t value, unsigned width)
{
    if (width == 8) {
        return true;
    }
    int64_t half = (int64_t)1 << (8 * width - 1);
    return -half <= value && value < half;
}

/* ---- structs ---- */

/* Whether `size` bytes lie at `offset` of `length` bytes. */
static inline bool wire_inside(size_t offset, size_t size, size_t length)
{
    return offset <= length && size <= length - offset;
}

bool wire_zero(const uint8_t *at, size_t size);
/* Bytes before the first NUL, at most `room`. */
size_t wire_text(const uint8_t *at, size_t room);

/* How many elements of `step` bytes follow: all that fit in the `left` bytes where `counted` is
 * false (they must fill it), otherwise `*count` as announced. False where that cannot be. */
bool wire_tail(size_t left, size_t step, size_t least, bool counted, uint64_t *count);

/* ---- messages ---- */

struct wire_header {
    uint32_t bufcount, secflvr, magic, repsize, cksum, flags;
};

struct wire_buffer {
    size_t offset, length;
};

struct wire_message {
    struct wire_header header;
    struct wire_buffer buffers[WIRE_BUFFERS];
};

/* Find the buffers of a message. False where header and bytes do not agree. */
bool wire_split(const uint8_t *bytes, size_t length, struct wire_message *message);

/* Round up to the 8 bytes that buffers are aligned to. */
size_t wire_align(size_t size);
/* Where buffer 0 of a message with that many buffers begins. */
size_t wire_start(unsigned bufcount);
/* Write header and lengths; the padding up to buffer 0 too. */
void wire_put_header(uint8_t *at, const struct wire_header *header, const uint32_t *lengths);

#endif
