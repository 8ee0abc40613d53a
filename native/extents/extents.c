/* The extent map; see extents.h. */
#include "extents.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#ifndef EXTENTS_REALLOC
#define EXTENTS_REALLOC realloc
#endif

/* Runs with at most this many extents together become one, so that holes leave no litter. */
#define EXTENTS_SPARSE (EXTENTS_RUN / 4)

/* ---- values that went ---- */

void extent_drops_init(struct extent_drops *drops)
{
    drops->values = drops->few;
    drops->count = 0;
    drops->room = sizeof drops->few / sizeof drops->few[0];
}

void extent_drops_free(struct extent_drops *drops)
{
    if (drops->values != drops->few) {
        free(drops->values);
    }
    extent_drops_init(drops);
}

/* Room for `more` values, so that pushing them cannot fail. */
static bool drops_reserve(struct extent_drops *drops, size_t more)
{
    if (drops->room - drops->count >= more) {
        return true;
    }
    if (more > SIZE_MAX / sizeof(void *) - drops->count) {
        return false;
    }
    size_t room = drops->count + more;
    void **old = drops->values == drops->few ? NULL : drops->values;
    void **values = EXTENTS_REALLOC(old, room * sizeof *values);
    if (values == NULL) {
        return false;
    }
    if (old == NULL) {
        memcpy(values, drops->few, drops->count * sizeof *values);
    }
    drops->values = values;
    drops->room = room;
    return true;
}

static void drops_push(struct extent_drops *drops, void *value)
{
    assert(drops->count < drops->room);
    drops->values[drops->count++] = value;
}

/* ---- places ---- */

static struct extent *item_at(const struct extents *map, struct extent_place place)
{
    return place.run < map->run_count ? &map->runs[place.run].items[place.item] : NULL;
}

const struct extent *extents_at(const struct extents *map, struct extent_place place)
{
    return item_at(map, place);
}

struct extent_place extents_next(const struct extents *map, struct extent_place place)
{
    if (++place.item >= map->runs[place.run].count) {
        place.run++;
        place.item = 0;
    }
    return place;
}

struct extent_place extents_seek(const struct extents *map, uint64_t position)
{
    size_t low = 0, high = map->run_count;
    while (low < high) { /* the first run that begins after the position */
        size_t middle = low + (high - low) / 2;
        if (map->runs[middle].first <= position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return (struct extent_place){0, 0};
    }
    const struct extent_run *run = &map->runs[low - 1];
    uint32_t left = 0, right = run->count;
    while (left < right) { /* the first extent that ends after the position */
        uint32_t middle = left + (right - left) / 2;
        if (run->items[middle].end <= position) {
            left = middle + 1;
        } else {
            right = middle;
        }
    }
    if (left == run->count) {
        return (struct extent_place){low, 0};
    }
    return (struct extent_place){low - 1, left};
}

/* How many extents lie in [from, to). */
static size_t distance(const struct extents *map, struct extent_place from,
                       struct extent_place to)
{
    if (from.run == to.run) {
        return to.item - from.item;
    }
    size_t found = map->runs[from.run].count - from.item;
    for (size_t run = from.run + 1; run < to.run; run++) {
        found += map->runs[run].count;
    }
    return found + to.item;
}

size_t extents_count(const struct extents *map, struct extent_place from, uint64_t end)
{
    struct extent_place to = extents_seek(map, end);
    const struct extent *last = item_at(map, to);
    if (last != NULL && last->start < end) {
        to = extents_next(map, to);
    }
    bool none = to.run < from.run || (to.run == from.run && to.item <= from.item);
    return none ? 0 : distance(map, from, to);
}

/* ---- runs ---- */

/* Room for one more run. */
static bool runs_reserve(struct extents *map)
{
    if (map->run_count < map->run_room) {
        return true;
    }
    size_t room = map->run_room == 0 ? 1 : map->run_room * 2;
    if (room > SIZE_MAX / sizeof *map->runs) {
        return false;
    }
    struct extent_run *runs = EXTENTS_REALLOC(map->runs, room * sizeof *runs);
    if (runs == NULL) {
        return false;
    }
    map->runs = runs;
    map->run_room = room;
    return true;
}

/* Give a run room for at least `need` extents; most maps hold few, so it grows in steps. */
static bool run_grow(struct extent_run *run, uint32_t need)
{
    if (need <= run->room) {
        return true;
    }
    uint32_t room = run->room == 0 ? 1 : run->room * 2;
    room = room < need ? need : room;
    struct extent *items = EXTENTS_REALLOC(run->items, room * sizeof *items);
    if (items == NULL) {
        return false;
    }
    run->items = items;
    run->room = room;
    return true;
}

/* A new run at `at` with room for `room` extents, still empty: the caller fills it. */
static struct extent_run *run_new(struct extents *map, size_t at, uint32_t room)
{
    struct extent_run fresh = {NULL, 0, 0, 0};
    if (!runs_reserve(map) || !run_grow(&fresh, room)) {
        return NULL;
    }
    memmove(&map->runs[at + 1], &map->runs[at], (map->run_count - at) * sizeof *map->runs);
    map->runs[at] = fresh;
    map->run_count++;
    return &map->runs[at];
}

/* Free the runs [from, to) and close the gap. */
static void runs_remove(struct extents *map, size_t from, size_t to)
{
    for (size_t run = from; run < to; run++) {
        free(map->runs[run].items);
    }
    memmove(&map->runs[from], &map->runs[to], (map->run_count - to) * sizeof *map->runs);
    map->run_count -= to - from;
}

/* Move the upper half of a full run into a new one behind it. A run that is appended to keeps
 * all, so that sequential maps stay dense. */
static bool run_split(struct extents *map, size_t at, uint32_t item)
{
    uint32_t count = map->runs[at].count;
    uint32_t keep = at + 1 == map->run_count && item == count ? count - 1 : count / 2;
    struct extent_run *upper = run_new(map, at + 1, count - keep + 1);
    if (upper == NULL) {
        return false;
    }
    struct extent_run *lower = &map->runs[at];
    memcpy(upper->items, &lower->items[keep], (count - keep) * sizeof *lower->items);
    upper->count = count - keep;
    upper->first = upper->items[0].start;
    lower->count = keep;
    return true;
}

/* Let the run take in the next one when both are sparse; only saves room, so it may fail. */
static void run_absorb(struct extents *map, size_t at)
{
    if (at + 1 >= map->run_count) {
        return;
    }
    struct extent_run *run = &map->runs[at], *next = run + 1;
    if (run->count + next->count > EXTENTS_SPARSE || !run_grow(run, run->count + next->count)) {
        return;
    }
    memcpy(&run->items[run->count], next->items, next->count * sizeof *next->items);
    run->count += next->count;
    runs_remove(map, at + 1, at + 2);
}

/* ---- single extents ---- */

/* Put an extent before `place`; moves no reference. `place` then names it. */
static bool place_before(struct extents *map, struct extent_place *place,
                         const struct extent *extent)
{
    if (place->item == 0 && place->run > 0) { /* better at the end of the run before */
        place->run--;
        place->item = map->runs[place->run].count;
    }
    if (map->run_count == 0) {
        if (run_new(map, 0, 1) == NULL) {
            return false;
        }
        *place = (struct extent_place){0, 0};
    } else if (map->runs[place->run].count == EXTENTS_RUN) {
        if (!run_split(map, place->run, place->item)) {
            return false;
        }
        uint32_t kept = map->runs[place->run].count;
        if (place->item > kept) {
            place->run++;
            place->item -= kept;
        }
    }
    struct extent_run *run = &map->runs[place->run];
    if (!run_grow(run, run->count + 1)) {
        return false; /* never right after run_new and run_split: they made room */
    }
    struct extent *item = &run->items[place->item];
    memmove(item + 1, item, (run->count - place->item) * sizeof *item);
    *item = *extent;
    run->count++;
    run->first = run->items[0].start;
    map->count++;
    map->total += extent->end - extent->start;
    return true;
}

/* Take [from, to) out of the map; the values go to `drops`, which has room. */
static void remove_places(struct extents *map, struct extent_place from, struct extent_place to,
                          struct extent_drops *drops)
{
    for (struct extent_place at = from; at.run != to.run || at.item != to.item;
         at = extents_next(map, at)) {
        const struct extent *item = item_at(map, at);
        map->total -= item->end - item->start;
        map->count--;
        drops_push(drops, item->value);
    }
    if (to.item > 0) { /* the head of the last run, or the middle of the only one */
        struct extent_run *run = &map->runs[to.run];
        uint32_t start = from.run == to.run ? from.item : 0;
        memmove(&run->items[start], &run->items[to.item],
                (run->count - to.item) * sizeof *run->items);
        run->count -= to.item - start;
        if (run->count > 0) {
            run->first = run->items[0].start;
        }
    }
    if (from.run < to.run) { /* the tail of the first run, and whole runs */
        map->runs[from.run].count = from.item;
        runs_remove(map, from.run + (from.item > 0), to.run);
    }
    if (from.run < map->run_count) {
        run_absorb(map, from.run);
    }
}

/* ---- changes ---- */

/* Cut a hole into the one extent that reaches over both its ends. */
static enum extents_result cut_middle(struct extents *map, const struct extents_calls *calls,
                                      struct extent_place place, uint64_t start, uint64_t end)
{
    struct extent *item = item_at(map, place);
    struct extent tail = {end, item->end, item->offset + (end - item->start), item->value};
    uint64_t low = item->start;
    struct extent_place after = extents_next(map, place);
    map->total -= tail.end - tail.start; /* still held by both, until the first is cut */
    if (!place_before(map, &after, &tail)) {
        map->total += tail.end - tail.start;
        return EXTENTS_NO_MEMORY;
    }
    calls->retain(tail.value);
    item = item_at(map, extents_seek(map, low)); /* the split may have moved it */
    item->end = start;
    map->total -= end - start;
    return EXTENTS_OK;
}

enum extents_result extents_punch(struct extents *map, const struct extents_calls *calls,
                                  uint64_t start, uint64_t end, struct extent_drops *drops)
{
    struct extent_place from = extents_seek(map, start);
    struct extent *item = item_at(map, from);
    if (item == NULL || item->start >= end) {
        return EXTENTS_OK;
    }
    if (item->start < start && item->end > end) {
        return cut_middle(map, calls, from, start, end);
    }
    struct extent_place to = extents_seek(map, end);
    if (!drops_reserve(drops, distance(map, from, to))) {
        return EXTENTS_NO_MEMORY;
    }
    struct extent *last = item_at(map, to);
    if (last != NULL && last->start < end) { /* `last` is not `item`: that would be the middle,
                                                or starts at or after `start` */
        map->total -= end - last->start;
        last->offset += end - last->start;
        last->start = end;
        map->runs[to.run].first = map->runs[to.run].items[0].start;
    }
    if (item->start < start) {
        map->total -= item->end - start;
        item->end = start;
        from = extents_next(map, from);
    }
    if (from.run != to.run || from.item != to.item) {
        remove_places(map, from, to, drops);
    }
    return EXTENTS_OK;
}

/* Make the extents at `left` and right after it one if they touch and go on. 1: it did. */
static int join(struct extents *map, const struct extents_calls *calls, struct extent_place left,
                struct extent_drops *drops)
{
    struct extent_place right = extents_next(map, left);
    struct extent *one = item_at(map, left), *two = item_at(map, right);
    if (two == NULL || one->end != two->start) {
        return 0;
    }
    if (!drops_reserve(drops, 2)) {
        return 0; /* two pieces say the same as one */
    }
    bool goes_on = one->value == two->value && one->offset + (one->end - one->start) == two->offset;
    if (!goes_on) {
        void *value;
        uint64_t offset;
        int merged = calls->merge == NULL
                         ? 0 : calls->merge(calls->context, one, two, &value, &offset);
        if (merged <= 0) {
            return merged;
        }
        drops_push(drops, one->value);
        one->value = value;
        one->offset = offset;
    }
    uint64_t length = two->end - two->start;
    one->end = two->end;
    map->total += length; /* and remove_places takes it off again */
    remove_places(map, right, extents_next(map, right), drops);
    return 1;
}

/* The extent before `place`; `place` is not the first. */
static struct extent_place before(const struct extents *map, struct extent_place place)
{
    if (place.item > 0) {
        place.item--;
    } else {
        place.run--;
        place.item = map->runs[place.run].count - 1;
    }
    return place;
}

enum extents_result extents_insert(struct extents *map, const struct extents_calls *calls,
                                   const struct extent *extent, struct extent_drops *drops)
{
    enum extents_result result = extents_punch(map, calls, extent->start, extent->end, drops);
    if (result != EXTENTS_OK) {
        return result;
    }
    struct extent_place place = extents_seek(map, extent->start);
    if (!place_before(map, &place, extent)) {
        return EXTENTS_NO_MEMORY;
    }
    uint64_t start = extent->start;
    if (place.run > 0 || place.item > 0) {
        if (join(map, calls, before(map, place), drops) < 0) {
            return EXTENTS_MERGE_FAILED;
        }
        place = extents_seek(map, start);
    }
    return join(map, calls, place, drops) < 0 ? EXTENTS_MERGE_FAILED : EXTENTS_OK;
}

void extents_reset(struct extents *map, void (*release)(void *value))
{
    struct extents old = *map;
    memset(map, 0, sizeof *map);
    for (size_t run = 0; run < old.run_count; run++) {
        for (uint32_t item = 0; item < old.runs[run].count; item++) {
            release(old.runs[run].items[item].value);
        }
        free(old.runs[run].items);
    }
    free(old.runs);
}

/* ---- questions ---- */

uint64_t extents_end(const struct extents *map)
{
    if (map->run_count == 0) {
        return 0;
    }
    const struct extent_run *run = &map->runs[map->run_count - 1];
    return run->items[run->count - 1].end;
}

uint64_t extents_next_hole(const struct extents *map, uint64_t position)
{
    struct extent_place place = extents_seek(map, position);
    const struct extent *item;
    while ((item = item_at(map, place)) != NULL && item->start <= position) {
        position = item->end;
        place = extents_next(map, place);
    }
    return position;
}

bool extents_next_data(const struct extents *map, uint64_t position, uint64_t *found)
{
    const struct extent *item = item_at(map, extents_seek(map, position));
    if (item == NULL) {
        return false;
    }
    *found = item->start > position ? item->start : position;
    return true;
}
