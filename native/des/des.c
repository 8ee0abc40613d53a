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
    des_wheel_free(queue);
    free(queue->heap);
    for (int ring = 0; ring < DES_RINGS; ring++) {
        free(queue->rings[ring].slots);
    }
    des_init(queue, queue->less);
}

/* ---- order ---- */

static inline bool before(const struct des_entry *a, const struct des_entry *b)
{
    return (a->at < b->at) | ((a->at == b->at) & (a->key < b->key));
}

/* Move the hole at `at` up to where `moved` belongs. */
static void up_number(struct des_entry *heap, size_t at, struct des_entry moved)
{
    while (at > 0) {
        size_t parent = (at - 1) / CHILDREN;
        if (!before(&moved, &heap[parent])) {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = moved;
}

/* Move the hole at `at` down to a leaf and from there up again: what is moved nearly always
 * belongs near the leaves, and to choose among four children without branches is cheap. */
static inline void down_number(struct des_entry *heap, size_t count, size_t at, uint64_t time,
                               uint64_t key, void *event)
{
    size_t top = at, child;
    while ((child = CHILDREN * at + 1) + CHILDREN <= count) {
        size_t left = child + before(&heap[child + 1], &heap[child]);
        size_t right = child + 2 + before(&heap[child + 3], &heap[child + 2]);
        size_t best = before(&heap[right], &heap[left]) ? right : left;
        heap[at] = heap[best];
        at = best;
    }
    if (child < count) {
        size_t best = child;
        while (++child < count) {
            best = before(&heap[child], &heap[best]) ? child : best;
        }
        heap[at] = heap[best];
        at = best;
    }
    while (at > top) {
        size_t parent = (at - 1) / CHILDREN;
        const struct des_entry *above = &heap[parent];
        if (above->at < time || (above->at == time && above->key < key)) {
            break;
        }
        heap[at] = *above;
        at = parent;
    }
    heap[at].at = time;
    heap[at].key = key;
    heap[at].event = event;
}

/* The same by the caller's comparison, which may fail (-1) and may look at the whole queue: so the
 * entries change places, and the heap holds each of them once all the time. */
static void exchange(struct des_entry *a, struct des_entry *b)
{
    struct des_entry entry = *a;
    *a = *b;
    *b = entry;
}

static int compare(struct des_queue *queue, size_t a, size_t b)
{
    return queue->less(des_to_object(queue->heap[a].at), des_to_object(queue->heap[b].at));
}

static int up_object(struct des_queue *queue, size_t at, struct des_entry moved)
{
    int result = 0;
    queue->heap[at] = moved;
    queue->busy = true;
    while (at > 0) {
        size_t parent = (at - 1) / CHILDREN;
        result = compare(queue, at, parent);
        if (result <= 0) {
            break;
        }
        exchange(&queue->heap[at], &queue->heap[parent]);
        at = parent;
    }
    queue->busy = false;
    return result < 0 ? -1 : 0;
}

static int best_child(struct des_queue *queue, size_t child, size_t *best)
{
    size_t end = child + CHILDREN < queue->count ? child + CHILDREN : queue->count;
    *best = child;
    while (++child < end) {
        int less = compare(queue, child, *best);
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
    queue->heap[at] = moved;
    queue->busy = true;
    for (size_t child, best; (child = CHILDREN * at + 1) < queue->count;) {
        result = best_child(queue, child, &best);
        if (result == 0) {
            result = compare(queue, best, at);
        }
        if (result <= 0) {
            break;
        }
        exchange(&queue->heap[at], &queue->heap[best]);
        at = best;
        result = 0;
    }
    queue->busy = false;
    return result < 0 ? -1 : 0;
}

static int up(struct des_queue *queue, size_t at, struct des_entry moved)
{
    if (queue->mode == DES_OBJECT) {
        return up_object(queue, at, moved);
    }
    up_number(queue->heap, at, moved);
    return 0;
}

static int down(struct des_queue *queue, size_t at, struct des_entry moved)
{
    if (queue->mode == DES_OBJECT) {
        return down_object(queue, at, moved);
    }
    down_number(queue->heap, queue->count, at, moved.at, moved.key, moved.event);
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

/* Let the last entry fill the hole. */
static inline void fill(struct des_queue *queue)
{
    if (queue->hole) {
        queue->hole = false;
        struct des_entry last = queue->heap[--queue->count];
        if (queue->count > 0) {
            down_number(queue->heap, queue->count, 0, last.at, last.key, last.event);
        }
    }
}

void des_refill(struct des_queue *queue, uint64_t at, uint64_t key, void *event)
{
    queue->hole = false;
    down_number(queue->heap, queue->count, 0, at, key, event);
}

#define WHEEL_FROM 64 /* in the heap */

int des_push(struct des_queue *queue, struct des_entry entry)
{
    if (queue->mode != DES_OBJECT) {
        if (queue->wheel == NULL && queue->count >= WHEEL_FROM && queue->last != 0) {
            des_wheel_make(queue); /* or do without */
        }
        if (queue->wheel != NULL &&
            des_wheel_push(queue, entry.at, entry.key, entry.event)) {
            return 0;
        }
    }
    return des_push_heap(queue, entry);
}

int des_push_heap(struct des_queue *queue, struct des_entry entry)
{
    if (queue->hole) { /* one way down instead of one down and one up */
        des_refill(queue, entry.at, entry.key, entry.event);
        return 0;
    }
    if (!reserve(queue, queue->count + 1)) {
        return DES_NO_MEMORY;
    }
    queue->count++;
    return up(queue, queue->count - 1, entry);
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
    } else if (ring->at != entry.at) {
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
#define IN_WHEEL (DES_RINGS + 1)
#define NOWHERE (-1)

static struct des_entry ring_entry(const struct des_ring *ring, size_t at)
{
    const struct des_slot *slot = &ring->slots[(ring->head + at) & (ring->room - 1)];
    struct des_entry entry = {ring->at, slot->key, slot->event};
    return entry;
}

/* Where the first is: a ring's number, IN_HEAP or NOWHERE. */
static inline int find_first(struct des_queue *queue, struct des_entry *first)
{
    int where = NOWHERE;
    fill(queue);
    if (queue->count > 0) {
        *first = queue->heap[0];
        where = IN_HEAP;
    }
    if (queue->wheel != NULL && queue->wheel->count > 0) {
        const struct des_bucket *bucket = &queue->wheel->buckets[queue->wheel->first];
        if (where == NOWHERE || before(&bucket->entries[bucket->head], first)) {
            *first = bucket->entries[bucket->head];
            where = IN_WHEEL;
        }
    }
    for (int number = 0; number < DES_RINGS; number++) {
        const struct des_ring *ring = &queue->rings[number];
        if (ring->count > 0) {
            struct des_entry entry = ring_entry(ring, 0);
            if (where == NOWHERE || before(&entry, first)) {
                *first = entry;
                where = number;
            }
        }
    }
    return where;
}

bool des_top(struct des_queue *queue, struct des_entry *first)
{
    return find_first(queue, first) != NOWHERE;
}

int des_pop(struct des_queue *queue, struct des_entry *first)
{
    int where = find_first(queue, first);
    if (where == NOWHERE) {
        return 0;
    }
    if (where == IN_WHEEL) {
        des_take_wheel(queue, first);
        return 1;
    }
    if (queue->mode != DES_OBJECT) {
        des_passed(queue, first->at);
    }
    if (where != IN_HEAP) {
        struct des_ring *ring = &queue->rings[where];
        ring->head = (ring->head + 1) & (ring->room - 1);
        ring->count--;
        return 1;
    }
    if (queue->mode != DES_OBJECT) {
        queue->hole = true;
        return 1;
    }
    struct des_entry last = queue->heap[--queue->count];
    return queue->count > 0 && down_object(queue, 0, last) < 0 ? -1 : 1;
}

/* ---- the whole ---- */

bool des_each(const struct des_queue *queue, struct des_place *place, struct des_entry *entry)
{
    for (; place->part < DES_RINGS; place->part++, place->at = 0) {
        const struct des_ring *ring = &queue->rings[place->part];
        if (place->at < ring->count) {
            *entry = ring_entry(ring, place->at++);
            return true;
        }
    }
    if (place->part == IN_HEAP) {
        size_t at = place->at + (queue->hole ? 1 : 0);
        if (at < queue->count) {
            *entry = queue->heap[at];
            place->at++;
            return true;
        }
        place->part++;
        place->at = 0;
    }
    size_t buckets = queue->wheel == NULL ? 0 : DES_SLOTS;
    for (; place->part - IN_WHEEL < buckets; place->part++, place->at = 0) {
        const struct des_bucket *bucket = &queue->wheel->buckets[place->part - IN_WHEEL];
        if (bucket->head + place->at < bucket->end) {
            *entry = bucket->entries[bucket->head + place->at++];
            return true;
        }
    }
    return false;
}

static bool exact(int64_t number)
{
    return -DES_EXACT <= number && number <= DES_EXACT;
}

bool des_use_floats(struct des_queue *queue)
{
    struct des_entry entry;
    for (struct des_place place = {0, 0}; des_each(queue, &place, &entry);) {
        if (!exact(des_to_int(entry.at))) {
            return false;
        }
    }
    if (!des_wheel_drain(queue)) {
        return false;
    }
    des_wheel_free(queue);
    queue->last = 0;
    fill(queue);
    for (size_t at = 0; at < queue->count; at++) {
        queue->heap[at].at = des_of_float((double)des_to_int(queue->heap[at].at));
    }
    for (int number = 0; number < DES_RINGS; number++) {
        struct des_ring *ring = &queue->rings[number];
        if (ring->count > 0) {
            ring->at = des_of_float((double)des_to_int(ring->at));
            for (size_t at = 0; at < ring->count; at++) {
                ring->slots[(ring->head + at) & (ring->room - 1)].key |= 1;
            }
        }
    }
    for (size_t at = 0; at < queue->count; at++) {
        queue->heap[at].key |= 1;
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

int des_use_objects(struct des_queue *queue, void *(*convert)(void *, const struct des_entry *),
                    void (*discard)(void *), void *context)
{
    size_t count = des_count(queue), done = 0;
    struct des_entry *heap = malloc((count == 0 ? 1 : count) * sizeof *heap);
    if (heap == NULL) {
        return DES_NO_MEMORY;
    }
    struct des_place place = {0, 0};
    for (; done < count && des_each(queue, &place, &heap[done]); done++) {
        void *object = convert(context, &heap[done]);
        heap[done].at = des_of_object(object);
        if (object == NULL) {
            while (done-- > 0) {
                discard(des_to_object(heap[done].at));
            }
            free(heap);
            return -1;
        }
    }
    des_wheel_free(queue);
    free(queue->heap);
    queue->heap = heap;
    queue->hole = false;
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
    if (!des_wheel_drain(queue)) {
        return DES_NO_MEMORY;
    }
    *dropped = malloc((des_count(queue) + 1) * sizeof **dropped);
    if (*dropped == NULL) {
        return DES_NO_MEMORY;
    }
    for (int number = 0; number < DES_RINGS; number++) {
        sweep_ring(&queue->rings[number], dead, context, *dropped, drops);
    }
    size_t kept = 0;
    fill(queue);
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
