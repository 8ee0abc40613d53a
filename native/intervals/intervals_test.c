/* The interval tree against a plain array, in random programs, and without memory.
 *
 * Values are counters of their own references, so a lost or doubled one is seen. Built with the
 * core's own source, so that it can make allocations fail. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool failing;

static void *failing_malloc(size_t size)
{
    return failing ? NULL : malloc(size);
}

#define INTERVALS_MALLOC failing_malloc
#include "intervals.c"

#define MOST 400
#define CHECK(that)                                                                             \
    do {                                                                                        \
        if (!(that)) {                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #that);                          \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

static uint64_t random_state;
static long references;

static uint64_t below(uint64_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 20) % limit;
}

/* Positions at both ends of 64 bits and in a narrow space between. */
static uint64_t position(void)
{
    uint64_t near = below(64);
    switch (below(8)) {
    case 0:
        return near;
    case 1:
        return UINT64_MAX - near;
    default:
        return 1000 + below(300);
    }
}

static void release(void *value)
{
    CHECK(value == &references);
    references--;
}

static int depth(const struct interval_node *node, const struct interval **before, size_t *count)
{
    if (node == NULL) {
        return 0;
    }
    int left = depth(node->left, before, count);
    CHECK(*before == NULL || compare(*before, &node->at) < 0);
    *before = &node->at;
    (*count)++;
    int right = depth(node->right, before, count);
    uint64_t reach = node->reach;
    struct interval_node copy = *node;
    measure(&copy);
    CHECK(copy.reach == reach);
    CHECK(node->left == NULL || node->left->priority <= node->priority);
    CHECK(node->right == NULL || node->right->priority <= node->priority);
    return 1 + (left > right ? left : right);
}

static void check_shape(const struct intervals *tree, int deepest)
{
    const struct interval *before = NULL;
    size_t count = 0;
    CHECK(depth(tree->root, &before, &count) <= deepest);
    CHECK(count == tree->count && (long)count == references);
}

struct seen {
    const struct interval *items[MOST];
    size_t count;
    size_t stop_at;
};

static int see(void *context, const struct interval_node *node)
{
    struct seen *seen = context;
    CHECK(node->value == &references);
    seen->items[seen->count++] = &node->at;
    return seen->count == seen->stop_at ? 7 : 0;
}

static void check_questions(const struct intervals *tree, const struct interval *all, size_t count)
{
    uint64_t start = position(), end = position();
    if (start > end) {
        uint64_t swap = start;
        start = end;
        end = swap;
    }
    size_t met = 0;
    uint64_t next = 0;
    bool above = false;
    for (size_t at = 0; at < count; at++) {
        met += all[at].start <= end && all[at].end >= start;
        if (all[at].start > start && (!above || all[at].start < next)) {
            next = all[at].start;
            above = true;
        }
    }
    struct seen seen = {.count = 0};
    CHECK(intervals_search(tree, start, end, see, &seen) == 0 && seen.count == met);
    for (size_t at = 0; at < seen.count; at++) {
        CHECK(seen.items[at]->start <= end && seen.items[at]->end >= start);
        CHECK(at == 0 || compare(seen.items[at - 1], seen.items[at]) < 0);
    }
    if (met > 1) {
        seen = (struct seen){.stop_at = met / 2};
        CHECK(intervals_search(tree, start, end, see, &seen) == 7 && seen.count == met / 2);
    }
    CHECK(intervals_overlap(tree, start, end) == (met > 0));
    uint64_t found = 0;
    CHECK(intervals_next_start(tree, start, &found) == above && (!above || found == next));
}

static void run(uint64_t seed)
{
    static struct interval all[MOST];
    struct intervals tree = {0};
    size_t count = 0;
    random_state = seed;
    references = 0;
    for (int step = 0; step < 3000; step++) {
        failing = below(20) == 0;
        if (count < MOST && below(count < 100 ? 3 : 2) != 0) {
            struct interval fresh = {position(), position(), below(3)};
            if (fresh.start > fresh.end) {
                fresh.end = fresh.start;
            }
            bool there = false;
            for (size_t at = 0; at < count; at++) {
                there = there || compare(&all[at], &fresh) == 0;
            }
            enum intervals_result result = intervals_insert(&tree, &fresh, &references);
            CHECK(result == (there ? INTERVALS_EXISTS : failing ? INTERVALS_NO_MEMORY : 0));
            if (result == INTERVALS_OK) {
                references++;
                all[count++] = fresh;
            }
        } else if (count > 0) {
            size_t at = below(count);
            struct interval gone = all[at];
            CHECK(intervals_remove(&tree, &gone) == &references);
            references--;
            all[at] = all[--count];
            CHECK(intervals_remove(&tree, &gone) == NULL);
        }
        check_questions(&tree, all, count);
        if (step % 50 == 0) {
            check_shape(&tree, 60);
        }
    }
    intervals_reset(&tree, release);
    check_shape(&tree, 0);
}

/* A hundred thousand in rising order: not a list. */
static void run_rising(void)
{
    struct intervals tree = {0};
    references = 0;
    failing = false;
    for (uint64_t at = 0; at < 100000; at++) {
        struct interval one = {at * 10, at * 10 + 25, at};
        CHECK(intervals_insert(&tree, &one, &references) == INTERVALS_OK);
        references++;
    }
    check_shape(&tree, 70);
    intervals_reset(&tree, release);
    CHECK(references == 0);
}

int main(void)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        run(seed);
    }
    run_rising();
    puts("intervals: ok");
    return 0;
}
