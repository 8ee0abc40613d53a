/* The extent map against an array of single bytes, in random programs, and without memory.
 *
 * Values are counters of their own references, so a lost or doubled one is seen. Built with the
 * core's own source, so that it can make allocations fail. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t failing; /* fail the allocation after so many; 0: none */

static void *failing_realloc(void *old, size_t size)
{
    if (failing > 0 && --failing == 0) {
        return NULL;
    }
    return realloc(old, size);
}

#define EXTENTS_REALLOC failing_realloc
#include "extents.c"

#define SPACE 4096
#define VALUES 5
#define CHECK(that)                                                                             \
    do {                                                                                        \
        if (!(that)) {                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #that);                          \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

struct value {
    long references;
};

/* What each byte holds: the value's number plus one, and the offset. */
struct truth {
    uint8_t value[SPACE];
    uint64_t offset[SPACE];
};

static struct value values[VALUES];
static uint64_t random_state;

static uint32_t below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

static void retain(void *value)
{
    ((struct value *)value)->references++;
}

static void release(void *value)
{
    ((struct value *)value)->references--;
}

/* Joins neighbours that show the same value and lie the same way to it; else sometimes fails. */
static int merge(void *context, const struct extent *left, const struct extent *right,
                 void **value, uint64_t *offset)
{
    (void)value;
    (void)offset;
    CHECK(left->end == right->start);
    return *(bool *)context && (left->start + right->end) % 5 == 0 ? -1 : 0;
}

static void let_go(struct extent_drops *drops)
{
    for (size_t at = 0; at < drops->count; at++) {
        release(drops->values[at]);
    }
    extent_drops_free(drops);
}

/* The map is in order, its counts are right, and nothing that could be one is two. */
static void check_shape(const struct extents *map)
{
    size_t count = 0;
    uint64_t total = 0, end = 0;
    for (size_t run = 0; run < map->run_count; run++) {
        const struct extent_run *one = &map->runs[run];
        CHECK(one->count > 0 && one->count <= EXTENTS_RUN && one->count <= one->room);
        CHECK(one->first == one->items[0].start);
        for (uint32_t item = 0; item < one->count; item++) {
            const struct extent *extent = &one->items[item];
            CHECK(extent->start >= end && extent->end > extent->start);
            end = extent->end;
            total += extent->end - extent->start;
            count++;
        }
    }
    CHECK(count == map->count && total == map->total && end == extents_end(map));
}

static void check_references(const struct extents *map)
{
    long found[VALUES] = {0};
    struct extent_place place = {0, 0};
    for (const struct extent *at; (at = extents_at(map, place)) != NULL;
         place = extents_next(map, place)) {
        found[(struct value *)at->value - values]++;
    }
    for (int value = 0; value < VALUES; value++) {
        CHECK(found[value] == values[value].references);
    }
}

static void check_bytes(const struct extents *map, const struct truth *truth)
{
    for (uint64_t at = 0; at < SPACE; at++) {
        const struct extent *item = extents_at(map, extents_seek(map, at));
        if (truth->value[at] == 0) {
            CHECK(item == NULL || item->start > at);
        } else {
            CHECK(item != NULL && item->start <= at);
            CHECK((struct value *)item->value - values == truth->value[at] - 1);
            CHECK(item->offset + (at - item->start) == truth->offset[at]);
        }
    }
}

static void truth_set(struct truth *truth, uint64_t start, uint64_t end, uint8_t value,
                      uint64_t offset)
{
    for (uint64_t at = start; at < end; at++) {
        truth->value[at] = value;
        truth->offset[at] = offset + (at - start);
    }
}

/* One random change to both. Without memory the range may have become a hole, no more. */
static void change(struct extents *map, struct truth *truth, const struct extents_calls *calls)
{
    uint64_t start = below(SPACE), length = 1 + below(below(8) == 0 ? 1000 : 12);
    uint64_t end = start + length > SPACE ? SPACE : start + length;
    struct extent_drops drops;
    extent_drops_init(&drops);
    if (below(4) == 0) {
        if (extents_punch(map, calls, start, end, &drops) == EXTENTS_OK) {
            truth_set(truth, start, end, 0, 0);
        }
    } else {
        uint8_t number = (uint8_t)below(VALUES);
        struct extent extent = {start, end, below(2) == 0 ? start : below(9), &values[number]};
        retain(extent.value);
        if (extents_insert(map, calls, &extent, &drops) != EXTENTS_NO_MEMORY) {
            truth_set(truth, start, end, number + 1, extent.offset);
        } else {
            release(extent.value);
            const struct extent *item = extents_at(map, extents_seek(map, start));
            if (item == NULL || item->start >= end) {
                truth_set(truth, start, end, 0, 0);
            }
        }
    }
    let_go(&drops);
}

static void random_programs(bool with_failures)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        random_state = seed;
        bool merge_fails = seed % 3 == 0;
        struct extents_calls calls = {retain, seed % 2 ? merge : NULL, &merge_fails};
        struct extents map = {0};
        static struct truth truth;
        memset(&truth, 0, sizeof truth);
        for (int step = 0; step < 600; step++) {
            failing = with_failures && below(3) == 0 ? 1 + below(3) : 0;
            change(&map, &truth, &calls);
            failing = 0;
            if (step % 50 == 0) {
                check_shape(&map);
                check_bytes(&map, &truth);
                check_references(&map);
            }
        }
        check_shape(&map);
        check_bytes(&map, &truth);
        extents_reset(&map, release);
        check_references(&map);
    }
}

/* Positions up to the last of 64 bits. */
static void edges(void)
{
    struct extents map = {0};
    struct extents_calls calls = {retain, NULL, NULL};
    struct extent all = {0, EXTENTS_EOF, 0, &values[0]};
    struct extent_drops drops;
    uint64_t found;
    extent_drops_init(&drops);
    retain(all.value);
    CHECK(extents_insert(&map, &calls, &all, &drops) == EXTENTS_OK);
    CHECK(map.total == EXTENTS_EOF && extents_next_hole(&map, 0) == EXTENTS_EOF);
    CHECK(!extents_next_data(&map, EXTENTS_EOF, &found));
    CHECK(extents_punch(&map, &calls, 1, EXTENTS_EOF - 1, &drops) == EXTENTS_OK);
    CHECK(map.total == 2 && map.count == 2);
    CHECK(extents_next_data(&map, 5, &found) && found == EXTENTS_EOF - 1);
    CHECK(extents_count(&map, extents_seek(&map, 0), EXTENTS_EOF) == 2);
    CHECK(extents_count(&map, extents_seek(&map, 1), 5) == 0);
    CHECK(extents_punch(&map, &calls, 0, EXTENTS_EOF, &drops) == EXTENTS_OK);
    let_go(&drops);
    extents_reset(&map, release);
    check_references(&map);
}

/* A sequential file of many pieces fills its runs, and emptying it frees them. */
static void many(void)
{
    struct extents map = {0};
    struct extents_calls calls = {retain, NULL, NULL};
    struct extent_drops drops;
    extent_drops_init(&drops);
    for (uint64_t page = 0; page < 100000; page++) {
        struct extent extent = {page * 4096, page * 4096 + 4096, 0, &values[page % VALUES]};
        retain(extent.value);
        CHECK(extents_insert(&map, &calls, &extent, &drops) == EXTENTS_OK);
    }
    check_shape(&map);
    CHECK(map.count == 100000 && map.run_count < 100000 / (EXTENTS_RUN - 2));
    CHECK(extents_punch(&map, &calls, 4096, 4096 * 99999u, &drops) == EXTENTS_OK);
    check_shape(&map);
    CHECK(map.count == 2 && map.run_count == 1 && drops.count == 99998);
    let_go(&drops);
    extents_reset(&map, release);
    check_references(&map);
}

int main(void)
{
    edges();
    many();
    random_programs(false);
    random_programs(true);
    return 0;
}
