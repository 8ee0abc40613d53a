/* Buffer positions and counts; see wire.h. */
#include "wire.h"

/* ---- structs ---- */

bool wire_zero(const uint8_t *at, size_t size)
{
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        if (word != 0) {
            return false;
        }
        at += 8;
        size -= 8;
    }
    while (size > 0) {
        if (*at++ != 0) {
            return false;
        }
        size--;
    }
    return true;
}

size_t wire_text(const uint8_t *at, size_t room)
{
    const uint8_t *end = memchr(at, 0, room);
    return end == NULL ? room : (size_t)(end - at);
}

bool wire_tail(size_t left, size_t step, size_t least, bool counted, uint64_t *count)
{
    if (!counted) {
        if (left % step != 0) {
            return false;
        }
        *count = left / step;
    }
    return *count <= left / step && *count >= least;
}

/* ---- messages ---- */

size_t wire_align(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

size_t wire_start(unsigned bufcount)
{
    return wire_align(WIRE_HEADER + 4 * (size_t)bufcount);
}

bool wire_split(const uint8_t *bytes, size_t length, struct wire_message *message)
{
    struct wire_header *header = &message->header;
    if (length < WIRE_HEADER) {
        return false;
    }
    header->bufcount = (uint32_t)wire_load(bytes, 4);
    header->secflvr = (uint32_t)wire_load(bytes + 4, 4);
    header->magic = (uint32_t)wire_load(bytes + 8, 4);
    header->repsize = (uint32_t)wire_load(bytes + 12, 4);
    header->cksum = (uint32_t)wire_load(bytes + 16, 4);
    header->flags = (uint32_t)wire_load(bytes + 20, 4);
    if (header->magic != WIRE_MAGIC || header->secflvr != 0 || header->bufcount == 0 ||
        header->bufcount > WIRE_BUFFERS) {
        return false;
    }
    size_t start = wire_start(header->bufcount);
    if (start > length) {
        return false;
    }
    for (uint32_t index = 0; index < header->bufcount; index++) {
        size_t size = (size_t)wire_load(bytes + WIRE_HEADER + 4 * index, 4);
        if (!wire_inside(start, size, length)) {
            return false;
        }
        message->buffers[index] = (struct wire_buffer){start, size};
        start = wire_align(start + size);
    }
    return start == length;
}

void wire_put_header(uint8_t *at, const struct wire_header *header, const uint32_t *lengths)
{
    memset(at, 0, wire_start(header->bufcount));
    wire_store(at, 4, header->bufcount);
    wire_store(at + 4, 4, header->secflvr);
    wire_store(at + 8, 4, header->magic);
    wire_store(at + 12, 4, header->repsize);
    wire_store(at + 16, 4, header->cksum);
    wire_store(at + 20, 4, header->flags);
    for (uint32_t index = 0; index < header->bufcount; index++) {
        wire_store(at + WIRE_HEADER + 4 * index, 4, lengths[index]);
    }
}
