/* Compiles an op table of labsim.pure.codec to a program.
 *
 * Trusts nothing about a table that memory safety hangs on: rows must lie one after the other, a
 * slot must be one, a record must be a plain tuple. TypeError where C cannot run a table.
 */
#include "wire_program.h"

#include <string.h>

static int unfit(PyObject *table, const char *why)
{
    PyErr_Format(PyExc_TypeError, "%R: %s", table, why);
    return -1;
}

/* ---- attributes of ops and tables ---- */

static int get_size(PyObject *object, const char *name, size_t *size)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    if (value == NULL) {
        return -1;
    }
    *size = PyLong_AsSize_t(value);
    Py_DECREF(value);
    if (*size == (size_t)-1 && PyErr_Occurred()) {
        return -1;
    }
    if (*size > UINT32_MAX / 2) {
        PyErr_SetString(PyExc_TypeError, "a struct that large");
        return -1;
    }
    return 0;
}

/* The letters of a row: how many, or -1. */
int get_letters(PyObject *op, letter *letters)
{
    PyObject *code = PyObject_GetAttrString(op, "code");
    if (code == NULL) {
        return -1;
    }
    int count = -1;
    if (!PyUnicode_Check(code) || PyUnicode_GET_LENGTH(code) > LETTERS) {
        PyErr_SetString(PyExc_TypeError, "an op's code");
    } else {
        count = (int)PyUnicode_GET_LENGTH(code);
        for (int at = 0; at < count; at++) {
            letters[at] = letter_of(PyUnicode_READ_CHAR(code, at));
            if (letters[at] == 0) {
                PyErr_SetString(PyExc_TypeError, "a letter that is no integer's");
                count = -1;
            }
        }
    }
    Py_DECREF(code);
    return count;
}

static size_t bytes_of(const letter *letters, int count)
{
    size_t size = 0;
    for (int at = 0; at < count; at++) {
        size += (size_t)(letters[at] < 0 ? -letters[at] : letters[at]);
    }
    return size;
}

/* Where an attribute lies in the objects of a class. */
int slot_of(PyTypeObject *factory, PyObject *name, Py_ssize_t *slot)
{
    PyObject *space = PyObject_GetAttrString((PyObject *)factory, "__dict__");
    PyObject *member = space == NULL ? NULL : PyObject_GetItem(space, name);
    int result = -1;
    if (member != NULL && Py_IS_TYPE(member, &PyMemberDescr_Type)) {
        PyMemberDef *found = ((PyMemberDescrObject *)member)->d_member;
        if (found->type == T_OBJECT_EX && found->offset > 0 &&
            found->offset + (Py_ssize_t)sizeof(PyObject *) <= factory->tp_basicsize) {
            *slot = found->offset;
            result = 0;
        }
    }
    Py_XDECREF(space);
    Py_XDECREF(member);
    if (result < 0) {
        PyErr_Clear();
        PyErr_SetString(PyExc_TypeError, "an attribute that is no slot");
    }
    return result;
}

/* The attribute of a row, interned: most names are found by their address. */
static int get_name(PyObject *op, struct row *row)
{
    row->name = PyObject_GetAttrString(op, "name");
    if (row->name == NULL || !PyUnicode_CheckExact(row->name)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "an op's name");
        }
        return -1;
    }
    PyUnicode_InternInPlace(&row->name);
    return 0;
}

/* ---- rows ---- */

/* The named tuple of a row, if it has one. */
static int get_make(PyObject *op, struct row *row)
{
    PyObject *make = PyObject_GetAttrString(op, "make");
    if (make == NULL || make == Py_None) {
        Py_XDECREF(make);
        return make == NULL ? -1 : 0;
    }
    PyTypeObject *type = (PyTypeObject *)make;
    if (!PyType_Check(make) || !PyType_IsSubtype(type, &PyTuple_Type) ||
        type->tp_basicsize != PyTuple_Type.tp_basicsize || type->tp_dictoffset != 0) {
        Py_DECREF(make);
        PyErr_SetString(PyExc_TypeError, "a record that is no plain named tuple");
        return -1;
    }
    row->make = type;
    return 0;
}

/* A tuple of zeros, for bytes that are all zero. */
static int set_nothing(struct row *row)
{
    PyObject *zeros = row->make == NULL ? PyTuple_New(row->count)
                                        : row->make->tp_alloc(row->make, row->count);
    for (uint32_t at = 0; zeros != NULL && at < row->count; at++) {
        PyTuple_SET_ITEM(zeros, at, PyLong_FromLong(0));
    }
    row->nothing = zeros;
    return zeros == NULL ? -1 : 0;
}

/* What an object has after its fixed part if nothing was given. */
static int set_no_tail(struct row *row)
{
    if (row->program == NULL && row->letters[0] == 0) {
        row->nothing = PyBytes_FromStringAndSize(NULL, 0);
        return row->nothing == NULL ? -1 : 0;
    }
    PyTypeObject *make = row->make;
    row->make = NULL;
    int result = set_nothing(row);
    row->make = make;
    return result;
}

static int get_program(struct state *state, PyObject *op, struct row *row)
{
    PyObject *table = PyObject_GetAttrString(op, "table");
    if (table == NULL) {
        return -1;
    }
    if (table != Py_None) {
        row->program = program_of(state, table);
    }
    int result = table != Py_None && row->program == NULL ? -1 : 0;
    Py_DECREF(table);
    return result;
}

/* The integer that an attribute path names, of a struct whose ops these are. */
static int find_integer(PyObject *ops, PyObject *path, size_t base, struct row *row)
{
    Py_ssize_t dot = PyUnicode_FindChar(path, '.', 0, PyUnicode_GET_LENGTH(path), 1);
    PyObject *head = dot < 0 ? Py_NewRef(path) : PyUnicode_Substring(path, 0, dot);
    int result = dot == -2 || head == NULL ? -1 : 0;
    bool found = false;
    for (Py_ssize_t at = 0; result == 0 && !found && at < PyTuple_GET_SIZE(ops); at++) {
        PyObject *op = PyTuple_GET_ITEM(ops, at);
        PyObject *name = PyObject_GetAttrString(op, "name");
        size_t offset;
        if (name == NULL || get_size(op, "offset", &offset) < 0) {
            result = -1;
        } else if (PyUnicode_Check(name) && PyUnicode_Compare(name, head) == 0) {
            found = true;
            if (dot < 0) {
                letter letters[LETTERS];
                size_t kind = TAIL;
                result = get_size(op, "kind", &kind) == 0 && kind == INT &&
                                 get_letters(op, letters) == 1 ? 0 : -1;
                row->selector = base + offset;
                row->selector_letter = letters[0];
            } else {
                PyObject *rest = PyUnicode_Substring(path, dot + 1, PyUnicode_GET_LENGTH(path));
                PyObject *table = PyObject_GetAttrString(op, "table");
                PyObject *inner = table == NULL ? NULL : PyObject_GetAttrString(table, "ops");
                result = inner == NULL || rest == NULL || !PyTuple_Check(inner)
                             ? -1 : find_integer(inner, rest, base + offset, row);
                Py_XDECREF(rest);
                Py_XDECREF(table);
                Py_XDECREF(inner);
            }
        }
        Py_XDECREF(name);
    }
    Py_XDECREF(head);
    if ((result < 0 || !found) && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_TypeError, "a selector that is no integer");
    }
    return found ? result : -1;
}

static int get_selector(PyObject *op, PyObject *ops, struct row *row, bool *given)
{
    PyObject *path = PyObject_GetAttrString(op, "selector");
    if (path == NULL) {
        return -1;
    }
    *given = PyUnicode_Check(path) && PyUnicode_GET_LENGTH(path) > 0;
    int result = *given ? find_integer(ops, path, 0, row) : 0;
    Py_DECREF(path);
    return result;
}

static int get_choices(struct state *state, PyObject *op, struct row *row)
{
    PyObject *cases = PyObject_GetAttrString(op, "cases");
    PyObject *items = cases == NULL ? NULL : PyMapping_Items(cases);
    Py_XDECREF(cases);
    if (items == NULL) {
        return -1;
    }
    int result = 0;
    size_t count = (size_t)PyList_GET_SIZE(items);
    row->choices = PyMem_Calloc(count + 1, sizeof *row->choices);
    if (row->choices == NULL) {
        Py_DECREF(items);
        PyErr_NoMemory();
        return -1;
    }
    for (size_t at = 0; result == 0 && at < count; at++) {
        PyObject *pair = PyList_GET_ITEM(items, (Py_ssize_t)at);
        PyObject *table = PyTuple_GET_ITEM(pair, 1);
        struct choice *choice = &row->choices[row->choice_count++];
        choice->value = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(pair, 0));
        if (choice->value == UINT64_MAX && PyErr_Occurred()) {
            result = -1;
        } else if (table != Py_None) {
            choice->program = program_of(state, table);
            result = choice->program == NULL ? -1 : 0;
            if (result == 0 && choice->program->size > row->size) {
                result = unfit(table, "larger than its union");
            }
        }
    }
    Py_DECREF(items);
    return result;
}

/* What the kind of a row needs beyond its place. */
static int row_details(struct state *state, PyObject *op, PyObject *ops, struct row *row)
{
    size_t length;
    bool given = false;
    int letters = get_letters(op, row->letters);
    if (letters < 0 || get_size(op, "length", &length) < 0 || get_make(op, row) < 0 ||
        get_program(state, op, row) < 0 || get_selector(op, ops, row, &given) < 0) {
        return -1;
    }
    size_t needed = bytes_of(row->letters, letters);
    switch (row->kind) {
    case INT:
        return letters == 1 && needed == row->size && row->make == NULL && row->program == NULL
                   ? 0 : unfit(op, "its code");
    case INTS:
        row->count = (uint32_t)length;
        return letters == 1 && needed * length == row->size && row->make == NULL
                   ? set_nothing(row) : unfit(op, "its code");
    case RECORD:
        row->count = (uint32_t)letters;
        return letters > 0 && needed == row->size && row->make != NULL ? set_nothing(row)
                                                                        : unfit(op, "its code");
    case STRUCT:
        return row->program != NULL && row->program->size == row->size ? 0
                                                                        : unfit(op, "its table");
    case UNION:
        return given ? get_choices(state, op, row) : unfit(op, "its selector");
    case TAIL:
        row->count = (uint32_t)length;
        row->parts = (uint32_t)letters;
        row->counted = given;
        row->step = (uint32_t)(row->program != NULL ? row->program->size : needed ? needed : 1);
        return row->program != NULL || row->make != NULL || letters < 2 ? set_no_tail(row)
                                                                        : unfit(op, "its code");
    default:
        return row->kind <= TAIL ? 0 : unfit(op, "its kind");
    }
}

/* Compile one op; `end` is where the one before it ends, and moves. */
static int row_compile(struct state *state, Program *program, PyObject *ops, Py_ssize_t at,
                       size_t *end)
{
    struct row *row = &program->rows[program->row_count++]; /* freed with it, also if it fails */
    PyObject *op = PyTuple_GET_ITEM(ops, at);
    size_t kind;
    if (get_size(op, "kind", &kind) < 0 || get_size(op, "offset", &row->offset) < 0 ||
        get_size(op, "size", &row->size) < 0 || get_name(op, row) < 0) {
        return -1;
    }
    row->kind = (enum kind)kind;
    if (row->offset != *end || (row->kind == TAIL && at + 1 < PyTuple_GET_SIZE(ops))) {
        return unfit(op, "not where the one before it ends");
    }
    *end += row->size;
    if (row_details(state, op, ops, row) < 0) {
        return -1;
    }
    row->slot = row->kind == INT ? 0 : program->slots++;
    if (row->kind == TEXT) {
        program->texts[program->text_count++] = row;
    } else if (row->kind == STRUCT || row->kind == UNION || row->kind == TAIL) {
        program->apart[program->apart_count++] = row;
    } else {
        return 0;
    }
    if (row->kind != STRUCT || !row->program->plain) {
        program->plain = false;
    }
    return 0;
}

/* ---- programs ---- */

/* A table of rows by the address of their names. */
static int names_fill(Program *self)
{
    size_t room = 8;
    while (room < 2 * self->row_count) {
        room *= 2;
    }
    self->names = PyMem_Calloc(room, sizeof *self->names);
    if (self->names == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->names_mask = room - 1;
    for (size_t index = 0; index < self->row_count; index++) {
        struct row *row = &self->rows[index];
        if (row_named(self, row->name) != NULL) {
            return unfit(self->table, "a name that it has twice");
        }
        size_t at = ((uintptr_t)row->name >> 4) & self->names_mask;
        while (self->names[at] != NULL) {
            at = (at + 1) & self->names_mask;
        }
        self->names[at] = row;
    }
    return 0;
}

struct row *row_named(const Program *program, PyObject *name)
{
    size_t at = ((uintptr_t)name >> 4) & program->names_mask;
    for (; program->names[at] != NULL; at = (at + 1) & program->names_mask) {
        if (program->names[at]->name == name) {
            return program->names[at];
        }
    }
    for (size_t index = 0; !PyUnicode_CHECK_INTERNED(name) && index < program->row_count; index++) {
        if (PyUnicode_Compare(program->rows[index].name, name) == 0) {
            return &program->rows[index];
        }
    }
    return NULL;
}

static int program_fill(struct state *state, Program *self, PyObject *ops)
{
    size_t count = (size_t)PyTuple_GET_SIZE(ops), end = 0;
    self->rows = PyMem_Calloc(count + 1, sizeof *self->rows);
    self->apart = PyMem_Calloc(count + 1, sizeof *self->apart);
    self->texts = PyMem_Calloc(count + 1, sizeof *self->texts);
    if (self->rows == NULL || self->apart == NULL || self->texts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->plain = true;
    for (Py_ssize_t at = 0; at < (Py_ssize_t)count; at++) {
        if (row_compile(state, self, ops, at, &end) < 0) {
            return -1;
        }
    }
    struct row *last = count > 0 ? &self->rows[count - 1] : NULL;
    if (last != NULL && last->kind == TAIL) {
        self->tail = last;
    }
    if (self->tail == NULL ? end != self->size : self->size < last->offset) {
        return unfit(self->table, "its size is not that of its rows");
    }
    self->fixed = self->tail == NULL ? self->size : last->offset;
    if (count > 0 && self->rows[0].kind == INT && self->rows[0].letters[0] == 4) {
        self->first = &self->rows[0];
    }
    return names_fill(self);
}

static Program *program_new(struct state *state, PyObject *table)
{
    Program *self = (Program *)state->program_type->tp_alloc(state->program_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->table = Py_NewRef(table);
    self->generate = Py_NewRef(state->generate);
    self->factory = (PyTypeObject *)PyObject_GetAttrString(table, "factory");
    PyObject *ops = PyObject_GetAttrString(table, "ops");
    int result = -1;
    if (self->factory == NULL || ops == NULL) {
        result = -1;
    } else if (!PyType_Check((PyObject *)self->factory) || !PyTuple_Check(ops) ||
               !PyType_IsSubtype(self->factory, state->struct_type) ||
               !struct_is_plain_class(self->factory)) {
        unfit(table, "no table");
    } else if (get_size(table, "size", &self->size) == 0) {
        result = program_fill(state, self, ops);
    }
    Py_XDECREF(ops);
    if (result < 0) {
        Py_CLEAR(self);
    }
    return self;
}

Program *program_of(struct state *state, PyObject *table)
{
    PyObject *found = PyDict_GetItemWithError(state->programs, table);
    if (found != NULL) {
        return (Program *)Py_NewRef(found);
    }
    Program *made = PyErr_Occurred() ? NULL : program_new(state, table);
    if (made != NULL && PyDict_SetItem(state->programs, table, (PyObject *)made) < 0) {
        Py_CLEAR(made);
    }
    return made;
}

static int program_traverse(Program *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->table);
    Py_VISIT(self->generate);
    Py_VISIT(self->factory);
    Py_VISIT(self->twins[0]);
    Py_VISIT(self->twins[1]);
    for (size_t at = 0; at < self->row_count; at++) {
        struct row *row = &self->rows[at];
        Py_VISIT(row->name);
        Py_VISIT(row->nothing);
        Py_VISIT(row->make);
        Py_VISIT(row->program);
        for (size_t index = 0; index < row->choice_count; index++) {
            Py_VISIT(row->choices[index].program);
        }
    }
    return 0;
}

static void program_dealloc(Program *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    for (size_t at = 0; at < self->row_count; at++) {
        struct row *row = &self->rows[at];
        Py_CLEAR(row->name);
        Py_CLEAR(row->nothing);
        Py_CLEAR(row->make);
        Py_CLEAR(row->program);
        for (size_t index = 0; index < row->choice_count; index++) {
            Py_CLEAR(row->choices[index].program);
        }
        PyMem_Free(row->choices);
    }
    for (size_t at = 0; at < SHARED_INTS; at++) {
        Py_CLEAR(self->ints[at].object);
    }
    while (self->free_count > 0) {
        PyObject_GC_Del(self->free[--self->free_count]);
    }
    PyMem_Free(self->rows);
    PyMem_Free(self->apart);
    PyMem_Free(self->texts);
    PyMem_Free(self->names);
    Py_CLEAR(self->table);
    Py_CLEAR(self->generate);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->twins[0]);
    Py_CLEAR(self->twins[1]);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot program_slots[] = {
    {Py_tp_doc, "An op table of labsim.pure.codec, compiled."},
    {Py_tp_traverse, program_traverse},
    {Py_tp_dealloc, program_dealloc},
    {0, NULL},
};

PyType_Spec program_spec = {
    .name = "labsim._wire.Program",
    .basicsize = sizeof(Program),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};
