/* Timers that are due soon, in buckets by time; see des.h.
 *
 * A bucket is an interval of 2^shift, and the wheel has as many as a timer of the usual length is
 * away, twice over; each is sorted. What is further away, or would have to be moved past too many
 * others, goes to the heap, so that the worst case is the heap's. The wheel turns by itself: its
 * entries lie between `last`, which only grows, and `last` + DES_SLOTS intervals.
 */
#include "des.h"

#include <stdlib.h>
#include <string.h>

#define STEPS 16      /* past so many an entry may be moved into its place */
#define PERIOD 4096   /* pushes after which the width of the buckets is looked at */
#define ASLEEP 65536  /* pushes for which a wheel that is of no use is left alone */

static unsigned width(uint64_t number)
{
    return number == 0 ? 0 : 64 - (unsigned)__builtin_clzll(number);
}

/* About four times as many buckets as entries: an empty one costs next to nothing. */
static unsigned bits_for(size_t count)
{
    unsigned bits = width(count) + 2;
    return bits < 6 ? 6 : bits > DES_WHEEL_BITS ? DES_WHEEL_BITS : bits;
}

/* Buckets of which a timer of that length (as a power of two) is half a turn away. */
static unsigned shift_for(unsigned length, unsigned bits, unsigned finer)
{
    unsigned most = bits - 1 + finer;
    return length > most ? length - most : 0;
}

bool des_wheel_make(struct des_queue *queue)
{
    struct des_wheel *wheel = calloc(1, sizeof *wheel);
    if (wheel == NULL) {
        return false;
    }
    uint64_t lengths = 0;
    for (size_t at = 0; at < queue->count; at++) {
        uint64_t due = queue->heap[at].at;
        lengths += width(due > queue->last ? due - queue->last : 0);
    }
    wheel->bits = bits_for(queue->count);
    wheel->shift = shift_for(queue->count == 0 ? 0 : (unsigned)(lengths / queue->count),
                             wheel->bits, 0);
    wheel->first_at = UINT64_MAX;
    queue->wheel = wheel;
    return true;
}

void des_wheel_free(struct des_queue *queue)
{
    if (queue->wheel != NULL) {
        for (size_t slot = 0; slot < DES_SLOTS; slot++) {
            free(queue->wheel->buckets[slot].entries);
        }
        free(queue->wheel);
        queue->wheel = NULL;
    }
}

static void set_first(struct des_wheel *wheel, size_t slot)
{
    struct des_bucket *bucket = &wheel->buckets[slot];
    wheel->first = slot;
    wheel->first_at = bucket->entries[bucket->head].at;
    __builtin_prefetch(bucket->entries[bucket->head].event);
}

/* The first bucket that is not empty, from that of the past on; there is one. */
static void find_bucket(struct des_wheel *wheel, size_t from)
{
    size_t word = from / 64;
    uint64_t bits = wheel->words[word] & ~(uint64_t)0 << from % 64;
    if (bits == 0) {
        uint64_t later = word + 1 < 64 ? wheel->summary & ~(uint64_t)0 << (word + 1) : 0;
        word = (size_t)__builtin_ctzll(later != 0 ? later : wheel->summary);
        bits = wheel->words[word];
    }
    set_first(wheel, word * 64 + (size_t)__builtin_ctzll(bits));
}

void des_wheel_empty(struct des_wheel *wheel, size_t slot)
{
    struct des_bucket *bucket = &wheel->buckets[slot];
    bucket->head = bucket->end = 0;
    wheel->words[slot / 64] &= ~((uint64_t)1 << slot % 64);
    if (wheel->words[slot / 64] == 0) {
        wheel->summary &= ~((uint64_t)1 << slot / 64);
    }
    if (wheel->summary == 0) {
        wheel->first_at = UINT64_MAX;
    } else {
        find_bucket(wheel, slot);
    }
}

static bool bucket_grow(struct des_bucket *bucket)
{
    if (bucket->head >= bucket->room / 2 && bucket->head > 0) {
        bucket->end -= bucket->head;
        memmove(bucket->entries, bucket->entries + bucket->head,
                bucket->end * sizeof *bucket->entries);
        bucket->head = 0;
        return true;
    }
    uint32_t room = bucket->room == 0 ? 2 : bucket->room * 2;
    struct des_entry *entries = realloc(bucket->entries, room * sizeof *entries);
    if (entries == NULL || room < bucket->room) {
        return false;
    }
    bucket->entries = entries;
    bucket->room = room;
    return true;
}

/* Put everything into the heap: false where there is no memory. */
bool des_wheel_drain(struct des_queue *queue)
{
    struct des_wheel *wheel = queue->wheel;
    while (wheel != NULL && wheel->count > 0) {
        struct des_bucket *bucket = &wheel->buckets[wheel->first];
        if (des_push_heap(queue, bucket->entries[bucket->head]) != 0) {
            set_first(wheel, wheel->first);
            return false;
        }
        wheel->count--;
        if (++bucket->head == bucket->end) {
            des_wheel_empty(wheel, wheel->first);
        }
    }
    return true;
}

/* Are the buckets as wide as they should be? Called after each PERIOD of pushes. */
static void consider(struct des_queue *queue)
{
    struct des_wheel *wheel = queue->wheel;
    bool useless = wheel->outside + wheel->crowded > PERIOD / 2;
    if (wheel->crowded > PERIOD / 4 && wheel->finer < 64) {
        wheel->finer++;
    }
    unsigned bits = bits_for(wheel->count);
    bool resized = bits > wheel->bits + 1 || bits + 2 < wheel->bits;
    if (!resized) {
        bits = wheel->bits;
    }
    unsigned shift = shift_for((unsigned)(wheel->lengths / PERIOD), bits, wheel->finer);
    bool unfit = wheel->crowded > PERIOD / 4 || wheel->outside > PERIOD / 4;
    wheel->since += PERIOD;
    if (useless && shift == wheel->shift) {
        wheel->asleep = ASLEEP;
    } else if ((resized || (unfit && shift != wheel->shift)) && wheel->since > wheel->count &&
               des_wheel_drain(queue)) {
        wheel->shift = shift;
        wheel->bits = bits;
        wheel->since = 0;
    }
    wheel->pushes = wheel->outside = wheel->crowded = 0;
    wheel->lengths = 0;
}

bool des_wheel_push(struct des_queue *queue, uint64_t at, uint64_t key, void *event)
{
    struct des_wheel *wheel = queue->wheel;
    if (wheel->asleep > 0) {
        wheel->asleep--;
        return false;
    }
    wheel->lengths += at > queue->last ? width(at - queue->last) : 0;
    if (++wheel->pushes == PERIOD) {
        consider(queue);
    }
    uint64_t interval = at >> wheel->shift;
    if (interval - (queue->last >> wheel->shift) >= (uint64_t)1 << wheel->bits) {
        wheel->outside++;
        return false;
    }
    size_t slot = interval & (((size_t)1 << wheel->bits) - 1);
    struct des_bucket *bucket = &wheel->buckets[slot];
    if (bucket->end == bucket->room && !bucket_grow(bucket)) {
        return false;
    }
    uint32_t place = bucket->end, least = bucket->end - bucket->head > STEPS ? place - STEPS
                                                                             : bucket->head;
    struct des_entry *entries = bucket->entries;
    while (place > least && (entries[place - 1].at > at ||
                             (entries[place - 1].at == at && entries[place - 1].key > key))) {
        place--;
    }
    if (place == least && place > bucket->head) {
        wheel->crowded++;
        return false;
    }
    for (uint32_t moved = bucket->end; moved > place; moved--) {
        entries[moved] = entries[moved - 1];
    }
    entries[place].at = at;
    entries[place].key = key;
    entries[place].event = event;
    bucket->end++;
    wheel->count++;
    wheel->words[slot / 64] |= (uint64_t)1 << slot % 64;
    wheel->summary |= (uint64_t)1 << slot / 64;
    if (at < wheel->first_at) {
        wheel->first_at = at;
        wheel->first = slot;
    }
    return true;
}
