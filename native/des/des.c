/* The queue of a discrete-event simulation; see des.h. */
#include "des.h"

#include <stdlib.h>
#include <string.h>

#define CHILDREN 4

void des_init(struct des_queue *queue, des_less less)
{
    memset(queue, 0, sizeof *queue);
    queue->less = less;
}

void des_free(struct des_queue *queue)
{
    free(queue->heap);
    for (int ring = 0; ring < DES_RINGS; ring++) {
        free(queue->rings[ring].slots);
    }
    des_init(queue, queue->less);
}

/* ---- order ---- */

static inline bool before_int(const struct des_entry *a, const struct des_entry *b)
{
    return a->at.i < b->at.i || (a->at.i == b->at.i && a->key < b->key);
}

static inline bool before_float(const struct des_entry *a, const struct des_entry *b)
{
    return a->at.d < b->at.d || (a->at.d == b->at.d && a->key < b->key);
}

static bool before(const struct des_queue *queue, const struct des_entry *a,
                   const struct des_entry *b)
{
    return queue->mode == DES_INT ? before_int(a, b) : before_float(a, b);
}

/* Move the hole at `at` up, or down, to where `moved` belongs. */
#define SIFTS(NAME, BEFORE)                                                                        \
    static void up_##NAME(struct des_entry *heap, size_t at, struct des_entry moved)               \
    {                                                                                              \
        while (at > 0) {                                                                           \
            size_t parent = (at - 1) / CHILDREN;                                                   \
            if (!BEFORE(&moved, &heap[parent])) {                                                  \
                break;                                                                             \
            }                                                                                      \
            heap[at] = heap[parent];                                                               \
            at = parent;                                                                           \
        }                                                                                          \
        heap[at] = moved;                                                                          \
    }                                                                                              \
    static void down_##NAME(struct des_entry *heap, size_t count, size_t at,                       \
                            struct des_entry moved)                                                \
    {                                                                                              \
        for (size_t child; (child = CHILDREN * at + 1) < count;) {                                 \
            size_t end = child + CHILDREN < count ? child + CHILDREN : count;                      \
            size_t best = child;                                                                   \
            while (++child < end) {                                                                \
                best = BEFORE(&heap[child], &heap[best]) ? child : best;                           \
            }                                                                                      \
            if (!BEFORE(&heap[best], &moved)) {                                                    \
                break;                                                                             \
            }                                                                                      \
            heap[at] = heap[best];                                                                 \
            at = best;                                                                             \
        }                                                                                          \
        heap[at] = moved;                                                                          \
    }

SIFTS(int, before_int)
SIFTS(float, before_float)

/* The same by the caller's comparison, which may fail: -1, and the heap holds all entries. */
static int up_object(struct des_queue *queue, size_t at, struct des_entry moved)
{
    struct des_entry *heap = queue->heap;
    int result = 0;
    queue->busy = true;
    while (at > 0) {
        size_t parent = (at - 1) / CHILDREN;
        result = queue->less(moved.at.o, heap[parent].at.o);
        if (result <= 0) {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = moved;
    queue->busy = false;
    return result < 0 ? -1 : 0;
}

static int best_child(struct des_queue *queue, size_t child, size_t *best)
{
    size_t end = child + CHILDREN < queue->count ? child + CHILDREN : queue->count;
    *best = child;
    while (++child < end) {
        int less = queue->less(queue->heap[child].at.o, queue->heap[*best].at.o);
        if (less < 0) {
            return -1;
        }
        *best = less ? child : *best;
    }
    return 0;
}

static int down_object(struct des_queue *queue, size_t at, struct des_entry moved)
{
    int result = 0;
    queue->busy = true;
    for (size_t child, best; (child = CHILDREN * at + 1) < queue->count;) {
        result = best_child(queue, child, &best);
        if (result == 0) {
            result = queue->less(queue->heap[best].at.o, moved.at.o);
        }
        if (result <= 0) {
            break;
        }
        queue->heap[at] = queue->heap[best];
        at = best;
        result = 0;
    }
    queue->heap[at] = moved;
    queue->busy = false;
    return result < 0 ? -1 : 0;
}

static int up(struct des_queue *queue, size_t at, struct des_entry moved)
{
    if (queue->mode == DES_OBJECT) {
        return up_object(queue, at, moved);
    }
    (queue->mode == DES_INT ? up_int : up_float)(queue->heap, at, moved);
    return 0;
}

static int down(struct des_queue *queue, size_t at, struct des_entry moved)
{
    if (queue->mode == DES_OBJECT) {
        return down_object(queue, at, moved);
    }
    (queue->mode == DES_INT ? down_int : down_float)(queue->heap, queue->count, at, moved);
    return 0;
}

/* ---- adding ---- */

static bool reserve(struct des_queue *queue, size_t count)
{
    if (count <= queue->room) {
        return true;
    }
    size_t room = queue->room == 0 ? 64 : queue->room;
    while (room < count) {
        room *= 2;
    }
    struct des_entry *heap = realloc(queue->heap, room * sizeof *heap);
    if (heap == NULL) {
        return false;
    }
    queue->heap = heap;
    queue->room = room;
    return true;
}

int des_push(struct des_queue *queue, struct des_entry entry)
{
    if (!reserve(queue, queue->count + 1)) {
        return DES_NO_MEMORY;
    }
    return up(queue, queue->count++, entry);
}

static bool ring_grow(struct des_ring *ring)
{
    size_t room = ring->room == 0 ? 64 : 2 * ring->room;
    struct des_slot *slots = malloc(room * sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    for (size_t at = 0; at < ring->count; at++) {
        slots[at] = ring->slots[(ring->head + at) & (ring->room - 1)];
    }
    free(ring->slots);
    ring->slots = slots;
    ring->room = room;
    ring->head = 0;
    return true;
}

int des_push_now(struct des_queue *queue, int number, struct des_entry entry)
{
    struct des_ring *ring = &queue->rings[number];
    if (ring->count == 0) {
        ring->at = entry.at;
    } else if (queue->mode == DES_INT ? ring->at.i != entry.at.i : ring->at.d != entry.at.d) {
        return des_push(queue, entry); /* time went backwards while the ring was not empty */
    }
    if (ring->count == ring->room && !ring_grow(ring)) {
        return DES_NO_MEMORY;
    }
    struct des_slot slot = {entry.key, entry.event};
    ring->slots[(ring->head + ring->count++) & (ring->room - 1)] = slot;
    return 0;
}

/* ---- taking ---- */

#define IN_HEAP DES_RINGS
#define NOWHERE (-1)

static struct des_entry ring_entry(const struct des_ring *ring, size_t at)
{
    const struct des_slot *slot = &ring->slots[(ring->head + at) & (ring->room - 1)];
    struct des_entry entry = {ring->at, slot->key, slot->event};
    return entry;
}

/* Where the first is: a ring's number, IN_HEAP or NOWHERE. */
static int find_first(const struct des_queue *queue, struct des_entry *first)
{
    int where = NOWHERE;
    if (queue->count > 0) {
        *first = queue->heap[0];
        where = IN_HEAP;
    }
    for (int number = 0; number < DES_RINGS; number++) {
        const struct des_ring *ring = &queue->rings[number];
        if (ring->count > 0) {
            struct des_entry entry = ring_entry(ring, 0);
            if (where == NOWHERE || before(queue, &entry, first)) {
                *first = entry;
                where = number;
            }
        }
    }
    return where;
}

bool des_top(const struct des_queue *queue, struct des_entry *first)
{
    return find_first(queue, first) != NOWHERE;
}

int des_pop(struct des_queue *queue, struct des_entry *first)
{
    int where = find_first(queue, first);
    if (where == NOWHERE) {
        return 0;
    }
    if (where != IN_HEAP) {
        struct des_ring *ring = &queue->rings[where];
        ring->head = (ring->head + 1) & (ring->room - 1);
        ring->count--;
        return 1;
    }
    struct des_entry last = queue->heap[--queue->count];
    if (queue->count > 0 && down(queue, 0, last) < 0) {
        return -1;
    }
    return 1;
}

/* ---- the whole ---- */

bool des_each(const struct des_queue *queue, size_t at, struct des_entry *entry)
{
    for (int number = 0; number < DES_RINGS; number++) {
        const struct des_ring *ring = &queue->rings[number];
        if (at < ring->count) {
            *entry = ring_entry(ring, at);
            return true;
        }
        at -= ring->count;
    }
    if (at < queue->count) {
        *entry = queue->heap[at];
        return true;
    }
    return false;
}

static bool exact(int64_t number)
{
    return -DES_EXACT <= number && number <= DES_EXACT;
}

bool des_to_float(struct des_queue *queue)
{
    struct des_entry entry;
    for (size_t at = 0; des_each(queue, at, &entry); at++) {
        if (!exact(entry.at.i)) {
            return false;
        }
    }
    for (size_t at = 0; at < queue->count; at++) {
        queue->heap[at].at.d = (double)queue->heap[at].at.i;
    }
    for (int number = 0; number < DES_RINGS; number++) {
        struct des_ring *ring = &queue->rings[number];
        if (ring->count > 0) {
            ring->at.d = (double)ring->at.i;
        }
    }
    queue->mode = DES_FLOAT;
    return true;
}

/* Set the heap in order from nothing. */
static int heapify(struct des_queue *queue)
{
    if (queue->count < 2) {
        return 0;
    }
    for (size_t at = (queue->count - 2) / CHILDREN + 1; at-- > 0;) {
        if (down(queue, at, queue->heap[at]) < 0) {
            return -1;
        }
    }
    return 0;
}

int des_to_object(struct des_queue *queue, void *(*convert)(void *, const struct des_entry *),
                  void (*discard)(void *), void *context)
{
    size_t count = des_count(queue), done = 0;
    struct des_entry *heap = malloc((count == 0 ? 1 : count) * sizeof *heap);
    if (heap == NULL) {
        return DES_NO_MEMORY;
    }
    for (; done < count && des_each(queue, done, &heap[done]); done++) {
        heap[done].at.o = convert(context, &heap[done]);
        if (heap[done].at.o == NULL) {
            while (done-- > 0) {
                discard(heap[done].at.o);
            }
            free(heap);
            return -1;
        }
    }
    free(queue->heap);
    queue->heap = heap;
    queue->count = count;
    queue->room = count == 0 ? 1 : count;
    for (int number = 0; number < DES_RINGS; number++) {
        queue->rings[number].count = 0;
    }
    queue->mode = DES_OBJECT;
    return heapify(queue);
}

static void sweep_ring(struct des_ring *ring, des_test dead, void *context,
                       struct des_entry *dropped, size_t *drops)
{
    size_t kept = 0;
    for (size_t at = 0; at < ring->count; at++) {
        struct des_entry entry = ring_entry(ring, at);
        if (dead(context, entry.event)) {
            dropped[(*drops)++] = entry;
        } else {
            ring->slots[(ring->head + kept++) & (ring->room - 1)] =
                ring->slots[(ring->head + at) & (ring->room - 1)];
        }
    }
    ring->count = kept;
}

int des_sweep(struct des_queue *queue, des_test dead, void *context, struct des_entry **dropped,
              size_t *drops)
{
    *drops = 0;
    *dropped = malloc((des_count(queue) + 1) * sizeof **dropped);
    if (*dropped == NULL) {
        return DES_NO_MEMORY;
    }
    for (int number = 0; number < DES_RINGS; number++) {
        sweep_ring(&queue->rings[number], dead, context, *dropped, drops);
    }
    size_t kept = 0;
    for (size_t at = 0; at < queue->count; at++) {
        if (dead(context, queue->heap[at].event)) {
            (*dropped)[(*drops)++] = queue->heap[at];
        } else {
            queue->heap[kept++] = queue->heap[at];
        }
    }
    queue->count = kept;
    return heapify(queue);
}
