/* A set of closed intervals that may overlap: which of them meet a range, which begins next.
 *
 * Knows neither Python nor what the values are. A treap ordered by (start, end, key), each node
 * with the highest end below it; its priorities are pseudo-random numbers of the tree's own, so
 * that no order of inserts makes it deep, and the same inserts make the same tree. Not
 * thread-safe. The rules are those of its twin, pure/intervals.py.
 */
#ifndef LABSIM_INTERVALS_H
#define LABSIM_INTERVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* [start, end], both included, start <= end; no two of one tree are alike in all three numbers. */
struct interval {
    uint64_t start;
    uint64_t end;
    uint64_t key;
};

struct interval_node {
    struct interval at;
    uint64_t reach; /* the highest end in this subtree */
    uint32_t priority;
    struct interval_node *left;
    struct interval_node *right;
    void *value;
};

/* An empty tree is all zero bytes. */
struct intervals {
    struct interval_node *root;
    size_t count;
    uint32_t random;
};

enum intervals_result { INTERVALS_OK = 0, INTERVALS_NO_MEMORY = -1, INTERVALS_EXISTS = -2 };

/* Takes over the caller's reference to `value` if the result is INTERVALS_OK. */
enum intervals_result intervals_insert(struct intervals *tree, const struct interval *interval,
                                       void *value);

/* Gives the reference back; NULL where there is no such interval. */
void *intervals_remove(struct intervals *tree, const struct interval *interval);

/* Forget all; `release` is called for each value after the tree is empty. */
void intervals_reset(struct intervals *tree, void (*release)(void *value));

bool intervals_overlap(const struct intervals *tree, uint64_t start, uint64_t end);

/* Call `visit` for those that meet [start, end], in order, until it gives anything but 0, which
 * is then the result. It must not change the tree. */
int intervals_search(const struct intervals *tree, uint64_t start, uint64_t end,
                     int (*visit)(void *context, const struct interval_node *node),
                     void *context);

/* The lowest start above `position`; false: none. */
bool intervals_next_start(const struct intervals *tree, uint64_t position, uint64_t *start);

#endif
