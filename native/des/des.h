/* The queue of a discrete-event simulation: what happens next, and in which order.
 *
 * Knows times, priorities and sequence numbers; does not know Python, nor what an event is (it is
 * a pointer here). A 4-ary heap ordered by (time, priority, sequence), and two rings for what is
 * due at once, so that an event without delay costs no comparison. Times are int64 numbers until
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

struct des_queue {
    enum des_mode mode;
    bool busy; /* within a comparison of the caller: the queue may not change */
    des_less less;
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
    return queue->count - (queue->hole ? 1 : 0) + queue->rings[0].count + queue->rings[1].count;
}

/* Add one: 0, -1 when a comparison failed (it was added all the same), or no memory. */
#define DES_NO_MEMORY (-2)
int des_push(struct des_queue *queue, struct des_entry entry);
/* Add one that is due at once, of priority `ring`; not in object mode. */
int des_push_now(struct des_queue *queue, int ring, struct des_entry entry);

/* The first, without taking it: false when there is none. */
bool des_top(struct des_queue *queue, struct des_entry *first);
/* Take the first: 1, 0 when there is none, -1 when a comparison failed (and it was taken). */
int des_pop(struct des_queue *queue, struct des_entry *first);

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

/* All entries in no particular order: false when `at` is past the last. */
bool des_each(const struct des_queue *queue, size_t at, struct des_entry *entry);

#endif
