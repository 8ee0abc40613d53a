/* The queue of events against a plain list: random schedules, all modes, cancelling, failures. */
#include "des.c"
#include "des_wheel.c"

#include <assert.h>
#include <stdio.h>

#define MOST 4096

/* An order in object mode, and what the model knows of an event. */
struct order {
    double at;
    int priority;
    uint64_t sequence;
};

struct event {
    struct order order;
    bool scheduled, dead;
};

static struct event events[MOST];
static uint64_t made;
static long objects;
static int fail_after = -1;

static uint64_t state = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static int order_of(const struct order *a, const struct order *b)
{
    if (a->at != b->at) {
        return a->at < b->at ? -1 : 1;
    }
    if (a->priority != b->priority) {
        return a->priority < b->priority ? -1 : 1;
    }
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

static int less(void *a, void *b)
{
    if (fail_after >= 0 && fail_after-- == 0) {
        return -1;
    }
    return order_of(a, b) < 0;
}

static void *copy(const struct order *order)
{
    struct order *object = malloc(sizeof *object);
    assert(object != NULL);
    *object = *order;
    objects++;
    return object;
}

static void *convert(void *context, const struct des_entry *entry)
{
    const struct event *event = entry->event;
    assert(*(int *)context == 1);
    assert(des_key_priority(entry->key) == event->order.priority);
    assert(des_key_sequence(entry->key) == event->order.sequence);
    return copy(&event->order);
}

static void discard(void *object)
{
    objects--;
    free(object);
}

static bool is_dead(void *context, void *event)
{
    (void)context;
    return ((struct event *)event)->dead;
}

static int add(struct des_queue *queue, double at, int priority, bool now)
{
    while (events[made % MOST].scheduled) {
        made++;
    }
    struct event *event = &events[made % MOST];
    struct order order = {at, priority, made};
    struct des_entry entry = {.key = des_key(priority, made, true), .event = event};
    event->order = order;
    event->scheduled = true;
    event->dead = false;
    made++;
    if (queue->mode == DES_INT) {
        entry.at = des_of_int((int64_t)at);
    } else if (queue->mode == DES_FLOAT) {
        entry.at = des_of_float(at);
    } else {
        entry.at = des_of_object(copy(&order));
    }
    return now ? des_push_now(queue, priority, entry) : des_push(queue, entry);
}

/* The first of the model, dead or not. */
static struct event *first(void)
{
    struct event *best = NULL;
    for (int at = 0; at < MOST; at++) {
        if (events[at].scheduled && (best == NULL || order_of(&events[at].order,
                                                             &best->order) < 0)) {
            best = &events[at];
        }
    }
    return best;
}

static double take(struct des_queue *queue, double now)
{
    struct des_entry top = {.event = NULL}, entry = {.event = NULL};
    struct event *expected = first();
    bool any = des_top(queue, &top);
    int got = des_pop(queue, &entry);
    assert(got == (expected != NULL) && any == (expected != NULL));
    if (expected == NULL) {
        return now;
    }
    assert(entry.event == expected && top.event == expected);
    expected->scheduled = false;
    if (queue->mode == DES_OBJECT) {
        discard(des_to_object(entry.at));
    }
    return expected->order.at;
}

static void cancel_some(struct des_queue *queue)
{
    size_t dead = 0, drops;
    for (int at = 0; at < MOST; at++) {
        if (events[at].scheduled && draw(3) == 0) {
            events[at].dead = true;
            dead++;
        }
    }
    struct des_entry *dropped;
    assert(des_sweep(queue, is_dead, NULL, &dropped, &drops) == 0 && drops == dead);
    for (size_t at = 0; at < drops; at++) {
        ((struct event *)dropped[at].event)->scheduled = false;
        if (queue->mode == DES_OBJECT) {
            discard(des_to_object(dropped[at].at));
        }
    }
    free(dropped);
}

static void empty(struct des_queue *queue)
{
    struct des_entry entry;
    while (des_count(queue) > 0) {
        assert(des_pop(queue, &entry) != 0);
        if (queue->mode == DES_OBJECT) {
            discard(des_to_object(entry.at));
        }
    }
    struct des_place place = {0, 0};
    assert(!des_each(queue, &place, &entry) && des_pop(queue, &entry) == 0);
    des_free(queue);
    memset(events, 0, sizeof events);
}

static void advance(struct des_queue *queue, enum des_mode mode)
{
    int one = 1;
    if (mode == DES_FLOAT && queue->mode == DES_INT) {
        assert(des_use_floats(queue));
    } else if (mode == DES_OBJECT && queue->mode != DES_OBJECT) {
        assert(des_use_objects(queue, convert, discard, &one) == 0);
    }
}

static void random_schedule(void)
{
    struct des_queue queue;
    des_init(&queue, less);
    double now = 0;
    int modes = (int)draw(3), turns = 200 + (int)draw(2000), busy = 1 + (int)draw(6);
    for (int turn = 0; turn < turns; turn++) {
        if (turn == turns / 3 || turn == 2 * turns / 3) {
            advance(&queue, (enum des_mode)(turn == turns / 3 ? modes > 0 : modes));
        }
        if (draw(400) == 0) {
            cancel_some(&queue);
        }
        if (draw(10) < (uint64_t)busy) {
            now = take(&queue, now);
        } else if (draw(2) == 0 && queue.mode != DES_OBJECT) {
            assert(add(&queue, now, (int)draw(DES_RINGS), true) == 0);
        } else {
            double back = draw(50) == 0 ? 3 : 0; /* the past: SimPy lets schedule do that */
            assert(add(&queue, now + (double)draw(20) - back, (int)draw(5) - 1, false) == 0);
        }
    }
    while (des_count(&queue) > 0) {
        now = take(&queue, now);
    }
    empty(&queue);
}

/* Timers of all lengths, few and many of them: what the wheel takes and what it does not. */
static void timers(uint64_t scale, size_t most, enum des_mode mode)
{
    struct des_queue queue;
    des_init(&queue, less);
    advance(&queue, mode);
    double now = 0;
    for (int turn = 0; turn < 9000; turn++) {
        struct des_entry entry;
        struct des_place place = {0, 0};
        if (turn % 3000 == 2999) {
            size_t seen = 0;
            while (des_each(&queue, &place, &entry)) {
                assert(((struct event *)entry.event)->scheduled);
                seen++;
            }
            assert(seen == des_count(&queue));
            cancel_some(&queue);
            scale = scale * 50 + 1;
        }
        if (turn == 7000 && mode == DES_INT && most % 2 == 0) {
            advance(&queue, most % 4 == 0 ? DES_FLOAT : DES_OBJECT);
        }
        if (des_count(&queue) > draw(most)) {
            now = take(&queue, now);
        } else {
            uint64_t length = draw(4) == 0 ? draw(scale) : scale + draw(97);
            length = draw(60) == 0 ? length << draw(20) : length;
            assert(add(&queue, now + (double)length, (int)draw(3), false) == 0);
        }
    }
    while (des_count(&queue) > 0) {
        now = take(&queue, now);
    }
    empty(&queue);
}

/* What a wheel is bad at: nearly all at a few times, and each before those that are there. */
static void crowds(void)
{
    struct des_queue queue;
    des_init(&queue, less);
    double now = 0;
    for (int turn = 0; turn < 60000; turn++) {
        if (des_count(&queue) > 1000 + draw(2000)) {
            now = take(&queue, now);
        } else if (turn < 16000) {
            uint64_t length = draw(2) == 0 ? draw(4) : ((uint64_t)1 << 30) + draw(5);
            assert(add(&queue, now + (double)length, 1, false) == 0);
        } else {
            assert(add(&queue, now + 1 + (double)draw(2), (int)draw(9000), false) == 0);
        }
    }
    while (des_count(&queue) > 0) {
        now = take(&queue, now);
    }
    empty(&queue);
}

/* Numbers beyond doubles stay whole numbers, and extreme priorities fit. */
static void borders(void)
{
    struct des_queue queue;
    struct des_entry entry = {.at = des_of_int(INT64_MAX)};
    entry.key = des_key(DES_PRIORITY_LOW, 7, false);
    des_init(&queue, less);
    assert(des_push(&queue, entry) == 0 && !des_use_floats(&queue) && queue.mode == DES_INT);
    entry.at = des_of_int(INT64_MIN);
    entry.key = des_key(DES_PRIORITY_HIGH, ((uint64_t)1 << 47) - 1, true);
    assert(des_push(&queue, entry) == 0 && des_pop(&queue, &entry) == 1);
    assert(des_count(&queue) == 1);
    assert(des_to_int(entry.at) == INT64_MIN && des_key_priority(entry.key) == DES_PRIORITY_HIGH);
    assert(des_key_sequence(entry.key) == ((uint64_t)1 << 47) - 1 && (entry.key & 1) == 1);
    empty(&queue);
}

/* The order of doubles is kept, infinities and denormals too. */
static void floats(void)
{
    double numbers[] = {-1e308 * 10, -1e300, -2.5, -5e-324, 0.0, 5e-324, 0.1, 1, 1e300, 1e308 * 10};
    size_t count = sizeof numbers / sizeof *numbers;
    for (size_t at = 0; at < count; at++) {
        assert(des_to_float(des_of_float(numbers[at])) == numbers[at]);
        assert(at == 0 || des_of_float(numbers[at - 1]) < des_of_float(numbers[at]));
    }
    assert(des_of_float(-0.0) == des_of_float(0.0));
}

/* A comparison that fails loses no entry and leaks nothing. */
static void failing_comparisons(void)
{
    for (int turn = 0; turn < 200; turn++) {
        struct des_queue queue;
        des_init(&queue, less);
        advance(&queue, DES_OBJECT);
        size_t count = 0;
        for (int at = 0; at < 60; at++) {
            fail_after = draw(8) == 0 ? (int)draw(3) : -1;
            int result = add(&queue, (double)draw(9), 1, false);
            assert(result == 0 || result == -1);
            count++;
            if (draw(4) == 0) {
                struct des_entry entry;
                fail_after = draw(3) == 0 ? (int)draw(5) : -1;
                assert(des_pop(&queue, &entry) != 0);
                ((struct event *)entry.event)->scheduled = false;
                discard(des_to_object(entry.at));
                count--;
            }
            assert(des_count(&queue) == count && !queue.busy);
        }
        fail_after = -1;
        empty(&queue);
    }
}

int main(void)
{
    for (int turn = 0; turn < 60; turn++) {
        random_schedule();
    }
    for (uint64_t scale = 1; scale < 1000000; scale *= 100) {
        timers(scale, 150, DES_INT);
        timers(scale, 1500, DES_INT);
        timers(scale, 3001, DES_FLOAT);
    }
    crowds();
    borders();
    floats();
    failing_comparisons();
    assert(objects == 0);
    puts("des: ok");
    return 0;
}
