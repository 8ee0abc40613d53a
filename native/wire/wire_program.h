/* Programs: the op table of one struct, compiled so that C can make and read its Python objects.
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
    bool counted;            /* TAIL: a field says how many */
    letter letters[LETTERS]; /* of INT and INTS the first, of RECORD all */
    letter selector_letter;  /* UNION, TAIL: what the field is that chooses or counts, */
    size_t selector;         /* and where it lies */
    uint32_t count;          /* integers of INTS and RECORD; of TAIL how many there must be */
    uint32_t parts;          /* TAIL of records: integers of one */
    uint32_t step;           /* TAIL: bytes of an element */
    uint32_t slot;           /* which of an object's slots; INT has none */
    size_t offset, size;
    PyObject *name;          /* the attribute, interned */
    PyObject *nothing;       /* INTS, RECORD, TAIL: the value that an object is made with */
    PyTypeObject *make;      /* RECORD, TAIL of records */
    struct program *program; /* STRUCT, TAIL of structs */
    struct choice *choices;  /* UNION */
    size_t choice_count;
};

#if defined(__SANITIZE_ADDRESS__)
#define FREE_OBJECTS 0 /* so that every use of a dead object is seen */
#else
#define FREE_OBJECTS 8
#endif
#define FREE_BYTES 256 /* larger objects are not kept for reuse */
#define SHARED_INTS_LOG 5
#define SHARED_INTS (1 << SHARED_INTS_LOG)

/* An integer that was set or read last: whoever keeps what a message said shares the object. */
struct shared_int {
    uint64_t value;
    PyObject *object;
};

/* A Python object, so that the collector sees it. */
typedef struct program {
    PyObject_HEAD
    PyObject *table;
    PyObject *generate;   /* labsim.pure.codec.generate */
    PyObject *twins[2];   /* the generated pack and unpack, when first needed */
    PyTypeObject *factory;
    size_t size;          /* that of the table */
    size_t fixed;         /* bytes that an object holds: all but the elements that follow */
    uint32_t slots;
    bool plain;           /* any bytes are an object as they are */
    struct row *rows;
    size_t row_count;
    struct row **apart;   /* STRUCT, UNION and TAIL: more than a copy of bytes */
    size_t apart_count;
    struct row **texts;   /* TEXT: when read, less than one */
    size_t text_count;
    struct row **names;   /* by the address of the name; a power of two of them */
    size_t names_mask;
    struct row *tail;     /* the last row, if it is one */
    struct row *first;    /* the row at offset 0, if it is an integer of four bytes */
    struct shared_int ints[SHARED_INTS];
    PyObject *free[FREE_OBJECTS + 1];
    int free_count;
} Program;

/* One wire object. Its integers, arrays, records and texts are bytes; a slot keeps what was made of
 * them, or whole objects, and is NULL until somebody asks. `odd` has what bytes cannot say: values
 * that do not fit, and the program itself for an attribute that was deleted. */
typedef struct {
    PyObject_VAR_HEAD /* the size: bytes after `odd` */
    Program *program;
    PyObject *odd;
    PyObject *slots[]; /* and then the bytes */
} Struct;

static inline uint8_t *struct_bytes(Struct *value)
{
    return (uint8_t *)(value->slots + value->program->slots);
}

/* Module state. */
struct state {
    PyTypeObject *program_type, *struct_type, *field_type, *unpacker_type, *messages_type;
    PyObject *generate; /* labsim.pure.codec.generate */
    PyObject *programs; /* table -> Program */
    PyObject *types;    /* class -> Program */
};

extern PyType_Spec program_spec, struct_spec, field_spec, unpacker_spec, messages_spec;
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

/* ---- programs ---- */

/* The program of a table: a new reference. */
Program *program_of(struct state *state, PyObject *table);

/* The row of an attribute, or NULL. */
struct row *row_named(const Program *program, PyObject *name);

/* A new object from the bytes at `offset`. NULL, with or without an exception, where the bytes do
 * not fit: the twin knows how to say it. `nested`: what follows the fixed part is not read. */
PyObject *program_read(Program *program, const uint8_t *bytes, size_t length, size_t offset,
                       bool nested);

/* How many bytes an object takes; -1, without an exception, where only the twin can tell. */
Py_ssize_t program_measure(Program *program, PyObject *value);

/* Write an object into `measured` bytes, all of which are set. False, without an exception, where
 * it is none that C knows to write. `nested` as above. */
bool program_write(Program *program, PyObject *value, uint8_t *at, size_t measured, bool nested);

/* The value of a row that no slot keeps, made of the bytes. */
PyObject *row_value(const struct row *row, const uint8_t *base);

/* Write a value as a row's bytes. `exactly`: only if the bytes say all of it. False, without an
 * exception, where it does not fit; the bytes are then anything. */
bool row_store(const struct row *row, PyObject *value, uint8_t *base, bool exactly);

/* The twin's pack (0) or unpack (1), asked after C gave up. */
PyObject *ask_twin(Program *program, int which, PyObject *const *args, size_t count,
                   PyObject *names);

/* ---- objects ---- */

/* A new object; its bytes are not set. */
Struct *struct_alloc(Program *program);
/* The collector is told of an object only when something that could be part of a cycle is in it. */
void struct_keep(Struct *self, PyObject *held);
/* An integer at a place in an object. */
PyObject *struct_int(Program *program, const uint8_t *at, letter letter);
/* An attribute's value: a new reference; and the reverse, or its deletion (NULL). */
PyObject *struct_get(Struct *self, const struct row *row);
int struct_set(Struct *self, const struct row *row, PyObject *value);
/* The integer of a row, in as many bytes as it has. False, without an exception, if it is none. */
bool struct_peek(Struct *self, const struct row *row, uint8_t *to);
/* What a call of a class does. */
PyObject *struct_call(PyObject *type, PyObject *const *args, size_t flags, PyObject *names);
bool struct_is_plain_class(PyTypeObject *type);
void struct_adopt(PyTypeObject *type);

/* ---- what a class is made with ---- */

/* space(names) and settle(cls) of labsim.pure.structs. */
PyObject *fields_space(PyObject *module, PyObject *names);
PyObject *fields_settle(PyObject *module, PyObject *cls);

/* A Python object's bytes as they lie; false, without an exception, where it has no plain ones. */
bool plain_bytes(PyObject *object, Py_buffer *view);

/* Where a slot of a Python class lies in its objects; -1 with an exception if it is none. */
int slot_of(PyTypeObject *type, PyObject *name, Py_ssize_t *slot);

#endif
