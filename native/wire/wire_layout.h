/* Layouts: the buffers of one direction of one format, from their plans (labsim.pure.messages).
 *
 * Knows what a buffer holds, and no message.
 */
#ifndef LABSIM_WIRE_LAYOUT_H
#define LABSIM_WIRE_LAYOUT_H

#include "wire_program.h"

/* The kinds of labsim.pure.messages.Part, with its numbers. */
enum part_kind { ONE, SEVERAL, NUMBER, NUMBERS, NAME, STRING, UUID, BYTES, REINT };

struct part {
    enum part_kind kind;
    bool open;               /* ONE: elements follow */
    bool view;               /* BYTES: not copied */
    letter letters[LETTERS]; /* NUMBER, NUMBERS, NAME */
    int letter_count;
    size_t size;
    PyObject *key;
    PyTypeObject *make; /* NAME */
    Program *program;   /* ONE, SEVERAL */
    struct choice *choices;
    size_t choice_count; /* REINT: by the first word */
};

struct layout {
    PyObject *buffers; /* the tuple it was made of */
    size_t count;
    struct part parts[WIRE_BUFFERS];
};

/* Compile a tuple of buffers: a capsule of a `struct layout`, or NULL with an exception. */
PyObject *layout_new(struct state *state, PyObject *buffers);

#endif
