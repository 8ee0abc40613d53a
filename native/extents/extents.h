/* A map from byte ranges to values: sorted extents that never overlap.
 *
 * Knows neither Python nor what the values are; it counts references to them through two calls.
 * Extents lie in runs of at most EXTENTS_RUN, so that a change moves few of them, and the runs in
 * one array: two binary searches find a position, and a map of a million pieces costs no more
 * pointers than one of ten. Not thread-safe. The rules are those of its twin, pure/extents.py.
 */
#ifndef LABSIM_EXTENTS_H
#define LABSIM_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENTS_EOF UINT64_MAX
#define EXTENTS_RUN 64u

/* Bytes [start, end) are what `value` holds from `offset` on. */
struct extent {
    uint64_t start;
    uint64_t end;
    uint64_t offset;
    void *value;
};

struct extent_run {
    struct extent *items;
    uint64_t first; /* start of items[0] */
    uint32_t count; /* never 0 */
    uint32_t room;
};

/* Values that the map no longer holds. The caller lets go of them when the call is over: letting
 * go may run anything, even another call on the same map. */
struct extent_drops {
    void **values;
    size_t count;
    size_t room;
    void *few[16];
};

struct extents_calls {
    /* One more reference to a value. */
    void (*retain)(void *value);
    /* 1: `value` (a new reference) from `offset` on is what both show; 0: they stay; -1: error.
     * Must not change the map. */
    int (*merge)(void *context, const struct extent *left, const struct extent *right,
                 void **value, uint64_t *offset);
    void *context;
};

struct extents {
    struct extent_run *runs;
    size_t run_count;
    size_t run_room;
    size_t count;   /* extents */
    uint64_t total; /* bytes */
};

/* A place in the map; the end is (run_count, 0). Any change makes it void. */
struct extent_place {
    size_t run;
    uint32_t item;
};

enum extents_result { EXTENTS_OK = 0, EXTENTS_NO_MEMORY = -1, EXTENTS_MERGE_FAILED = -2 };

/* An empty map is all zero bytes. */

void extent_drops_init(struct extent_drops *drops);
/* Frees the array, not what it names. */
void extent_drops_free(struct extent_drops *drops);

/* Put [start, end), start < end, taking over the caller's reference to `value` if the result is
 * not EXTENTS_NO_MEMORY. Without memory the map stays valid, but the range may be a hole. When
 * the merge fails the extent is in, unmerged. */
enum extents_result extents_insert(struct extents *map, const struct extents_calls *calls,
                                   const struct extent *extent, struct extent_drops *drops);

/* Make [start, end) a hole. Without memory nothing has changed. */
enum extents_result extents_punch(struct extents *map, const struct extents_calls *calls,
                                  uint64_t start, uint64_t end, struct extent_drops *drops);

/* Forget all; `release` is called for each value after the map is empty. */
void extents_reset(struct extents *map, void (*release)(void *value));

/* The first extent that ends after `position`. */
struct extent_place extents_seek(const struct extents *map, uint64_t position);
const struct extent *extents_at(const struct extents *map, struct extent_place place);
struct extent_place extents_next(const struct extents *map, struct extent_place place);
/* How many extents lie at or after `from` and start before `end`. */
size_t extents_count(const struct extents *map, struct extent_place from, uint64_t end);

uint64_t extents_end(const struct extents *map);
/* The first byte at or after `position` that holds none; at most EXTENTS_EOF. */
uint64_t extents_next_hole(const struct extents *map, uint64_t position);
/* Whether there is data at or after `position`, and where. */
bool extents_next_data(const struct extents *map, uint64_t position, uint64_t *found);

#endif
