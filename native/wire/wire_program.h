/* Programs: the op table of one struct, compiled so that C can fill and read its Python objects.
 *
 * Shared by the files of the module labsim._wire; knows Python, and no struct of Lustre.
 */
#ifndef LABSIM_WIRE_PROGRAM_H
#define LABSIM_WIRE_PROGRAM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "wire.h"

/* The kinds of labsim.pure.codec.Kind, with its numbers. */
enum kind { INT, INTS, TEXT, OCTETS, RECORD, STRUCT, UNION, TAIL };

#define LETTERS 8 /* integers in a record */

/* An integer's width in bytes, negative where it is signed. */
typedef int8_t letter;

struct program;

/* One member of a union; `program` is NULL where the bytes mean nothing. */
struct choice {
    uint64_t value;
    struct program *program;
};

/* One row of the table. */
struct row {
    enum kind kind;
    letter letters[LETTERS]; /* of INT and INTS the first, of RECORD all */
    uint32_t count;          /* integers of INTS and RECORD; of TAIL how many there must be */
    uint32_t parts;          /* TAIL of records: integers of one */
    uint32_t step;           /* TAIL: bytes of an element */
    size_t offset, size;
    Py_ssize_t slot;         /* where the attribute lies in the object */
    PyObject *nothing;       /* INTS, RECORD, OCTETS: the value of bytes that are all zero */
    PyTypeObject *make;      /* RECORD, TAIL of records */
    struct program *program; /* STRUCT, TAIL of structs */
    bool counted;            /* TAIL: a field says how many */
    size_t selector;         /* UNION, TAIL: where the field lies that chooses or counts, */
    letter selector_letter;  /* and what it is */
    struct choice *choices;  /* UNION */
    size_t choice_count;
};

/* One integer of a struct: where it lies in the bytes and in the object. */
struct cell {
    uint32_t offset, slot;
    letter letter;
};

/* A Python object, so that the collector sees it. */
typedef struct program {
    PyObject_HEAD
    PyObject *table;
    PyObject *generate;  /* labsim.pure.codec.generate */
    PyObject *twins[2];  /* the generated pack and unpack, when first needed */
    PyTypeObject *factory;
    PyObject *zero;
    size_t size;
    struct cell *cells; /* the rows that are one integer */
    size_t cell_count;
    struct row *rows;   /* the others */
    size_t row_count;
    struct row *tail;   /* the last row, if it is one */
    Py_ssize_t first;   /* the slot of the integer at offset 0, or 0 */
} Program;

/* Module state. */
struct state {
    PyTypeObject *program_type, *packer_type, *unpacker_type, *messages_type;
    PyObject *generate; /* labsim.pure.codec.generate */
    PyObject *programs; /* table -> Program */
};

extern PyType_Spec program_spec, packer_spec, unpacker_spec, messages_spec;
extern struct PyModuleDef module_definition;

/* ---- integers ---- */

/* The integer as Python's. */
PyObject *int_read(const uint8_t *at, letter letter);
/* Write it. False, without an exception, where it is none or does not fit. */
bool int_write(uint8_t *at, letter letter, PyObject *value);
/* The letter of a character of the struct module; 0 for others. */
letter letter_of(Py_UCS4 character);
/* The letters of an object's `code`: how many, or -1 with an exception. */
int get_letters(PyObject *object, letter *letters);

/* ---- values of several integers, and text ---- */

/* A named tuple, or a plain one where `make` is NULL. `same`: all are of the first letter. */
PyObject *tuple_read(PyTypeObject *make, const letter *letters, bool same, Py_ssize_t count,
                     const uint8_t *at);
/* Write a tuple or list of exactly `count` integers; false, without an exception, if it is none. */
bool ints_write(const letter *letters, bool same, Py_ssize_t count, PyObject *value, uint8_t *at);
/* Text up to its first NUL, and the reverse, which sets all of `room`. */
PyObject *text_read(const uint8_t *at, size_t room);
bool text_write(PyObject *value, uint8_t *at, size_t room);

/* Where an attribute lies in the objects of a class; -1 with an exception if it is no slot. */
int slot_of(PyTypeObject *type, PyObject *name, Py_ssize_t *slot);

/* ---- programs ---- */

/* The program of a table: a new reference. */
Program *program_of(struct state *state, PyObject *table);

/* A new object from the bytes at `offset`. NULL, with or without an exception, where the bytes do
 * not fit: the twin knows how to say it. `nested`: what follows the fixed part is not read. */
PyObject *program_read(Program *program, const uint8_t *bytes, size_t length, size_t offset,
                       bool nested);

/* How many bytes an object takes; -1, without an exception, where only the twin can tell. */
Py_ssize_t program_measure(Program *program, PyObject *value);

/* Write an object into `measured` bytes, all of which are set. False, without an exception, where
 * it is none that C knows to write. `nested` as above. */
bool program_write(Program *program, PyObject *value, uint8_t *at, size_t measured, bool nested);

/* The twin's pack (0) or unpack (1): a borrowed reference. */
PyObject *program_twin(Program *program, int which);

/* What `labsim._wire.generate` gives for pack and unpack. */
PyObject *packer_new(struct state *state, Program *program);
PyObject *unpacker_new(struct state *state, Program *program);

/* A Python object's bytes as they lie; false, without an exception, where it has no plain ones. */
bool plain_bytes(PyObject *object, Py_buffer *view);

#endif
