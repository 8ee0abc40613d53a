/* The treap behind intervals.h. Recursion is as deep as the tree: some 60 for a million. */
#include "intervals.h"

#include <stdlib.h>

#ifndef INTERVALS_MALLOC
#define INTERVALS_MALLOC malloc
#endif

static int compare(const struct interval *one, const struct interval *other)
{
    if (one->start != other->start) {
        return one->start < other->start ? -1 : 1;
    }
    if (one->end != other->end) {
        return one->end < other->end ? -1 : 1;
    }
    return one->key == other->key ? 0 : one->key < other->key ? -1 : 1;
}

/* Set a node's reach from its own end and its children's. */
static void measure(struct interval_node *node)
{
    uint64_t reach = node->at.end;
    if (node->left != NULL && node->left->reach > reach) {
        reach = node->left->reach;
    }
    if (node->right != NULL && node->right->reach > reach) {
        reach = node->right->reach;
    }
    node->reach = reach;
}

/* xorshift32: any state but 0 leads to any other. */
static uint32_t next_priority(struct intervals *tree)
{
    uint32_t state = tree->random != 0 ? tree->random : 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    tree->random = state;
    return state;
}

/* What is before `at` goes to *low, the rest to *high. */
static void split(struct interval_node *node, const struct interval *at,
                  struct interval_node **low, struct interval_node **high)
{
    if (node == NULL) {
        *low = *high = NULL;
        return;
    }
    if (compare(&node->at, at) < 0) {
        split(node->right, at, &node->right, high);
        *low = node;
    } else {
        split(node->left, at, low, &node->left);
        *high = node;
    }
    measure(node);
}

/* One tree of two, all of `low` being before all of `high`. */
static struct interval_node *merge(struct interval_node *low, struct interval_node *high)
{
    if (low == NULL || high == NULL) {
        return low != NULL ? low : high;
    }
    if (low->priority > high->priority) {
        low->right = merge(low->right, high);
        measure(low);
        return low;
    }
    high->left = merge(low, high->left);
    measure(high);
    return high;
}

static struct interval_node *put(struct interval_node *node, struct interval_node *fresh)
{
    if (node == NULL || fresh->priority > node->priority) {
        split(node, &fresh->at, &fresh->left, &fresh->right);
        measure(fresh);
        return fresh;
    }
    if (compare(&fresh->at, &node->at) < 0) {
        node->left = put(node->left, fresh);
    } else {
        node->right = put(node->right, fresh);
    }
    measure(node);
    return node;
}

static struct interval_node *take(struct interval_node *node, const struct interval *at,
                                  struct interval_node **taken)
{
    if (node == NULL) {
        return NULL;
    }
    int order = compare(at, &node->at);
    if (order == 0) {
        *taken = node;
        return merge(node->left, node->right);
    }
    if (order < 0) {
        node->left = take(node->left, at, taken);
    } else {
        node->right = take(node->right, at, taken);
    }
    measure(node);
    return node;
}

static bool known(const struct intervals *tree, const struct interval *interval)
{
    const struct interval_node *node = tree->root;
    while (node != NULL) {
        int order = compare(interval, &node->at);
        if (order == 0) {
            return true;
        }
        node = order < 0 ? node->left : node->right;
    }
    return false;
}

enum intervals_result intervals_insert(struct intervals *tree, const struct interval *interval,
                                       void *value)
{
    if (known(tree, interval)) {
        return INTERVALS_EXISTS;
    }
    struct interval_node *fresh = INTERVALS_MALLOC(sizeof *fresh);
    if (fresh == NULL) {
        return INTERVALS_NO_MEMORY;
    }
    *fresh = (struct interval_node){.at = *interval, .value = value};
    fresh->priority = next_priority(tree);
    tree->root = put(tree->root, fresh);
    tree->count++;
    return INTERVALS_OK;
}

void *intervals_remove(struct intervals *tree, const struct interval *interval)
{
    struct interval_node *taken = NULL;
    tree->root = take(tree->root, interval, &taken);
    if (taken == NULL) {
        return NULL;
    }
    void *value = taken->value;
    tree->count--;
    free(taken);
    return value;
}

static void reset(struct interval_node *node, void (*release)(void *value))
{
    if (node != NULL) {
        reset(node->left, release);
        reset(node->right, release);
        void *value = node->value;
        free(node);
        release(value);
    }
}

void intervals_reset(struct intervals *tree, void (*release)(void *value))
{
    struct interval_node *root = tree->root;
    tree->root = NULL;
    tree->count = 0;
    reset(root, release);
}

bool intervals_overlap(const struct intervals *tree, uint64_t start, uint64_t end)
{
    const struct interval_node *node = tree->root;
    while (node != NULL && node->reach >= start) {
        if (node->at.start <= end && node->at.end >= start) {
            return true;
        }
        /* If anything on the left reaches `start`, either it meets the range, or all that meets
         * it begins after `end`: then nothing on the right can meet it. */
        if (node->left != NULL && node->left->reach >= start) {
            node = node->left;
        } else {
            node = node->at.start <= end ? node->right : NULL;
        }
    }
    return false;
}

static int search(const struct interval_node *node, uint64_t start, uint64_t end,
                  int (*visit)(void *context, const struct interval_node *node), void *context)
{
    if (node == NULL || node->reach < start) {
        return 0;
    }
    int result = search(node->left, start, end, visit, context);
    if (result != 0 || node->at.start > end) {
        return result;
    }
    if (node->at.end >= start) {
        result = visit(context, node);
    }
    return result != 0 ? result : search(node->right, start, end, visit, context);
}

int intervals_search(const struct intervals *tree, uint64_t start, uint64_t end,
                     int (*visit)(void *context, const struct interval_node *node),
                     void *context)
{
    return search(tree->root, start, end, visit, context);
}

bool intervals_next_start(const struct intervals *tree, uint64_t position, uint64_t *start)
{
    const struct interval_node *node = tree->root;
    bool found = false;
    while (node != NULL) {
        if (node->at.start > position) {
            *start = node->at.start;
            found = true;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return found;
}
