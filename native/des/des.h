/* The queue of a discrete-event simulation: what happens next, and in which order.
 *
 * Knows times, priorities and sequence numbers; does not know Python, nor what an event is (it is
 * a pointer here). A 4-ary heap ordered by (time, priority, sequence); two rings for what is due at
 * once, so that an event without delay costs no comparison; and from some number of events on a
 * wheel of buckets for what is due soon. Times are int64 numbers until
 * somebody schedules a float, then doubles, and as soon as a time or a priority fits neither,
 * objects that a function of the caller compares.
 */
#ifndef LABSIM_DES_H
#define LABSIM_DES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum des_mode { DES_INT, DES_FLOAT, DES_OBJECT };

/* One scheduled event. at: the time as a number in its order, see des_of_int and des_of_float; in
 * object mode the object. key: priority (16 bits), sequence (47 bits), whether a time among floats
 * is a whole number that was given as such (1 bit). */
struct des_entry {
    uint64_t at;
    uint64_t key;
    void *event;
};

#define DES_RINGS 2
#define DES_PRIORITY_LOW (-32768)
#define DES_PRIORITY_HIGH 32767
#define DES_EXACT 9007199254740992 /* whole numbers up to here are doubles exactly */

struct des_slot {
    uint64_t key;
    void *event;
};

struct des_ring {
    struct des_slot *slots;
    size_t head, count, room; /* room is 0 or a power of two */
    uint64_t at;
};

/* 1 when a comes before b, 0 when not, -1 on an error of the caller's comparison. */
typedef int (*des_less)(void *a, void *b);

#define DES_WHEEL_BITS 12
#define DES_SLOTS ((size_t)1 << DES_WHEEL_BITS)

struct des_bucket {
    struct des_entry *entries; /* head to end, sorted */
    uint32_t head, end, room;
};

struct des_wheel {
    unsigned shift, bits;        /* an interval is 2^shift; 2^bits buckets are in use */
    uint64_t summary, words[64]; /* a bit for each bucket that is not empty */
    size_t count, first;        /* the bucket of the first entry */
    uint64_t first_at;          /* its time, UINT64_MAX when there is none */
    /* since the width was looked at: pushes, the sum of how far away they were (as powers of two),
     * and how many of them went to the heap */
    uint64_t lengths;
    uint32_t pushes, outside, crowded;
    unsigned finer; /* powers of two by which the buckets are narrower than usual */
    size_t since;   /* pushes since the width was changed */
    uint32_t asleep;
    struct des_bucket buckets[DES_SLOTS];
};

struct des_queue {
    enum des_mode mode;
    bool busy; /* within a comparison of the caller: the queue may not change */
    des_less less;
    uint64_t last; /* the greatest time of what was taken */
    struct des_wheel *wheel; /* or NULL */
    bool hole; /* heap[0] was taken, and nothing moved yet into its place */
    struct des_entry *heap;
    size_t count, room; /* count: with the hole */
    struct des_ring rings[DES_RINGS];
};

#define DES_SIGN ((uint64_t)1 << 63)

static inline uint64_t des_of_int(int64_t number)
{
    return (uint64_t)number ^ DES_SIGN;
}

static inline int64_t des_to_int(uint64_t at)
{
    return (int64_t)(at ^ DES_SIGN);
}

/* Of any number but NaN; -0.0 becomes 0.0. */
static inline uint64_t des_of_float(double number)
{
    uint64_t bits;
    number += 0.0;
    memcpy(&bits, &number, sizeof bits);
    return bits & DES_SIGN ? ~bits : bits ^ DES_SIGN;
}

static inline double des_to_float(uint64_t at)
{
    uint64_t bits = at & DES_SIGN ? at ^ DES_SIGN : ~at;
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static inline void *des_to_object(uint64_t at)
{
    return (void *)(uintptr_t)at;
}

static inline uint64_t des_of_object(void *object)
{
    return (uint64_t)(uintptr_t)object;
}

static inline uint64_t des_key(int priority, uint64_t sequence, bool whole)
{
    return (uint64_t)(priority - DES_PRIORITY_LOW) << 48 | sequence << 1 | (whole ? 1 : 0);
}

static inline int des_key_priority(uint64_t key)
{
    return (int)(key >> 48) + DES_PRIORITY_LOW;
}

static inline uint64_t des_key_sequence(uint64_t key)
{
    return key >> 1 & (((uint64_t)1 << 47) - 1);
}

void des_init(struct des_queue *queue, des_less less);
void des_free(struct des_queue *queue); /* the memory; what events there are, the caller drops */

/* How many are scheduled. */
static inline size_t des_count(const struct des_queue *queue)
{
    return queue->count - (queue->hole ? 1 : 0) + queue->rings[0].count + queue->rings[1].count +
           (queue->wheel == NULL ? 0 : queue->wheel->count);
}

/* Add one: 0, -1 when a comparison failed (it was added all the same), or no memory. */
#define DES_NO_MEMORY (-2)
int des_push(struct des_queue *queue, struct des_entry entry);
/* Add one that is due at once, of priority `ring`; not in object mode. */
int des_push_now(struct des_queue *queue, int ring, struct des_entry entry);

/* Add one to the heap; not in object mode. Quick where the first was just taken. */
void des_refill(struct des_queue *queue, uint64_t at, uint64_t key, void *event);
int des_push_heap(struct des_queue *queue, struct des_entry entry);
bool des_wheel_make(struct des_queue *queue);
void des_wheel_free(struct des_queue *queue);
bool des_wheel_drain(struct des_queue *queue);
void des_wheel_empty(struct des_wheel *wheel, size_t slot);
bool des_wheel_push(struct des_queue *queue, uint64_t at, uint64_t key, void *event);

static inline int des_push_number(struct des_queue *queue, uint64_t at, uint64_t key, void *event)
{
    if (queue->wheel != NULL && des_wheel_push(queue, at, key, event)) {
        return 0;
    }
    if (queue->hole) { /* one way down instead of one down and one up */
        des_refill(queue, at, key, event);
        return 0;
    }
    return queue->wheel != NULL ? des_push_heap(queue, (struct des_entry){at, key, event})
                                : des_push(queue, (struct des_entry){at, key, event});
}

/* The first, without taking it: false when there is none. */
bool des_top(struct des_queue *queue, struct des_entry *first);
/* Take the first: 1, 0 when there is none, -1 when a comparison failed (and it was taken). */
int des_pop(struct des_queue *queue, struct des_entry *first);

static inline void des_passed(struct des_queue *queue, uint64_t at)
{
    queue->last = at > queue->last ? at : queue->last;
}

static inline void des_take_wheel(struct des_queue *queue, struct des_entry *first)
{
    struct des_wheel *wheel = queue->wheel;
    struct des_bucket *bucket = &wheel->buckets[wheel->first];
    *first = bucket->entries[bucket->head];
    des_passed(queue, first->at);
    wheel->count--;
    if (++bucket->head == bucket->end) {
        des_wheel_empty(wheel, wheel->first);
    } else {
        wheel->first_at = bucket->entries[bucket->head].at;
    }
}

/* The event that is due `later` events after the first one, where that is easily told; or NULL. */
static inline void *des_ahead(const struct des_queue *queue, uint32_t later)
{
    if (queue->wheel == NULL || queue->wheel->count == 0) {
        return NULL;
    }
    const struct des_bucket *bucket = &queue->wheel->buckets[queue->wheel->first];
    return bucket->head + later < bucket->end ? bucket->entries[bucket->head + later].event : NULL;
}

/* The same where it is easy: false when des_pop has to look for it. */
static inline bool des_pop_quickly(struct des_queue *queue, struct des_entry *first)
{
    if (queue->hole || queue->mode == DES_OBJECT || queue->rings[0].count != 0) {
        return false;
    }
    uint64_t soon = queue->wheel == NULL ? UINT64_MAX : queue->wheel->first_at;
    struct des_ring *ring = &queue->rings[1];
    if (ring->count != 0) {
        if (soon <= ring->at || (queue->count != 0 && queue->heap[0].at <= ring->at)) {
            return false;
        }
        const struct des_slot *slot = &ring->slots[ring->head];
        *first = (struct des_entry){ring->at, slot->key, slot->event};
        ring->head = (ring->head + 1) & (ring->room - 1);
        ring->count--;
        des_passed(queue, first->at);
        return true;
    }
    if (soon != UINT64_MAX) {
        if (queue->count != 0 && queue->heap[0].at <= soon) {
            return false;
        }
        des_take_wheel(queue, first);
        return true;
    }
    if (queue->count == 0) {
        return false;
    }
    *first = queue->heap[0];
    queue->hole = true;
    des_passed(queue, first->at);
    return true;
}

/* Change to doubles: false (and nothing changed) if a time is not a double exactly. */
bool des_use_floats(struct des_queue *queue);
/* Change to objects, which `convert(context, entry)` makes, NULL on an error: 0, -1, or no
 * memory. Nothing has changed on an error. */
int des_use_objects(struct des_queue *queue, void *(*convert)(void *, const struct des_entry *),
                    void (*discard)(void *), void *context);

/* Take out all entries for which `dead` is true, into an array that the caller frees. 0; no
 * memory, then nothing has changed; -1 after a failed comparison, then the order is undefined. */
typedef bool (*des_test)(void *context, void *event);
int des_sweep(struct des_queue *queue, des_test dead, void *context, struct des_entry **dropped,
              size_t *drops);

/* All entries in no particular order, from a place of zeroes on: false past the last. */
struct des_place {
    size_t part, at;
};
bool des_each(const struct des_queue *queue, struct des_place *place, struct des_entry *entry);

#endif
