/* The objects: one wire struct that keeps its fields as the bytes they are on the wire.
 *
 * The documentation stands in the twin, labsim/pure/structs.py. Whatever the wire cannot carry is
 * kept aside (`odd`), so that an object holds any value that the twin's slots hold, and says no
 * when it is packed, as the twin does.
 */
#include "wire_program.h"

#include <string.h>

#define LITTLE 256 /* Python has these integers once for all */

/* ---- memory ---- */

Struct *struct_alloc(Program *program)
{
    Struct *self;
    if (program->free_count > 0) {
        self = (Struct *)program->free[--program->free_count];
        Py_INCREF(program->factory);
        _Py_NewReference((PyObject *)self);
    } else {
        size_t room = program->slots * sizeof(PyObject *) + program->fixed;
        self = PyObject_GC_NewVar(Struct, program->factory, (Py_ssize_t)room);
        if (self == NULL) {
            return NULL;
        }
    }
    self->program = (Program *)Py_NewRef((PyObject *)program);
    self->odd = NULL;
    memset(self->slots, 0, program->slots * sizeof(PyObject *));
    return self;
}

/* One whose fields are all zero, empty or fresh. */
static Struct *struct_blank(Program *program)
{
    Struct *self = struct_alloc(program);
    if (self != NULL) {
        memset(struct_bytes(self), 0, program->fixed);
    }
    return self;
}

void struct_keep(Struct *self, PyObject *held)
{
    if (PyObject_IS_GC(held) && !PyObject_GC_IsTracked((PyObject *)self)) {
        PyObject_GC_Track(self);
    }
}

static int struct_traverse(Struct *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->program);
    Py_VISIT(self->odd);
    for (uint32_t at = 0; at < self->program->slots; at++) {
        Py_VISIT(self->slots[at]);
    }
    return 0;
}

static int struct_clear(Struct *self)
{
    Py_CLEAR(self->odd);
    for (uint32_t at = 0; at < self->program->slots; at++) {
        Py_CLEAR(self->slots[at]);
    }
    return 0;
}

static void struct_dealloc(Struct *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Program *program = self->program;
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, struct_dealloc)
    struct_clear(self);
    if (program->free_count < FREE_OBJECTS && program->fixed <= FREE_BYTES &&
        type == program->factory) {
        program->free[program->free_count++] = (PyObject *)self;
    } else {
        PyObject_GC_Del(self);
    }
    Py_DECREF(program);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

/* ---- attributes ---- */

static void no_attribute(Struct *self, const struct row *row)
{
    PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '%U'",
                 Py_TYPE(self)->tp_name, row->name);
}

/* The place of a number that Python does not keep by itself. */
static inline struct shared_int *shared_at(Program *program, uint64_t value)
{
    return &program->ints[value * 0x9e3779b97f4a7c15u >> (64 - SHARED_INTS_LOG)];
}

PyObject *struct_int(Program *program, const uint8_t *at, letter letter)
{
    uint64_t value = letter < 0 ? (uint64_t)wire_load_signed(at, (unsigned)-letter)
                                : wire_load(at, (unsigned)letter);
    if (value <= LITTLE || (letter < 0 && (int64_t)value < 0)) {
        return PyLong_FromLong((long)value);
    }
    struct shared_int *kept = shared_at(program, value);
    if (kept->object == NULL || kept->value != value) {
        PyObject *made = PyLong_FromUnsignedLongLong(value);
        if (made == NULL) {
            return NULL;
        }
        kept->value = value;
        Py_XSETREF(kept->object, made);
    }
    return Py_NewRef(kept->object);
}

/* Remember an int that was just stored. */
static void share_int(Struct *self, const struct row *row, PyObject *given)
{
    uint64_t value = wire_load(struct_bytes(self) + row->offset, (unsigned)row->size);
    if (value > LITTLE && row->letters[0] > 0) {
        struct shared_int *kept = shared_at(self->program, value);
        kept->value = value;
        Py_XSETREF(kept->object, Py_NewRef(given));
    }
}

PyObject *struct_get(Struct *self, const struct row *row)
{
    if (self->odd != NULL) {
        PyObject *odd = PyDict_GetItemWithError(self->odd, row->name);
        if (odd == (PyObject *)self->program) {
            no_attribute(self, row);
            return NULL;
        }
        if (odd != NULL || PyErr_Occurred()) {
            return Py_XNewRef(odd);
        }
    }
    if (row->kind == INT) {
        return struct_int(self->program, struct_bytes(self) + row->offset, row->letters[0]);
    }
    PyObject **slot = &self->slots[row->slot];
    if (*slot == NULL) {
        PyObject *made = row_value(row, struct_bytes(self));
        if (made == NULL) {
            return NULL;
        }
        *slot = made;
        if (row->kind == STRUCT) {
            struct_keep(self, made);
        }
    }
    return Py_NewRef(*slot);
}

/* Keep a value that the bytes cannot. */
static int keep_odd(Struct *self, const struct row *row, PyObject *value)
{
    if (self->odd == NULL) {
        self->odd = PyDict_New();
    }
    if (self->odd == NULL || PyDict_SetItem(self->odd, row->name, value) < 0) {
        return -1;
    }
    struct_keep(self, value);
    if (row->kind != INT) {
        Py_CLEAR(self->slots[row->slot]);
    }
    return 0;
}

static int delete(Struct *self, const struct row *row)
{
    PyObject *held = struct_get(self, row);
    if (held == NULL) {
        return -1;
    }
    Py_DECREF(held);
    return keep_odd(self, row, (PyObject *)self->program);
}

int struct_set(Struct *self, const struct row *row, PyObject *value)
{
    if (value == NULL) {
        return delete(self, row);
    }
    bool whole = row->kind == STRUCT || row->kind == UNION || row->kind == TAIL;
    if (!whole && !row_store(row, value, struct_bytes(self), true)) {
        return keep_odd(self, row, value);
    }
    if (row->kind == INT) {
        share_int(self, row, value);
    } else {
        Py_XSETREF(self->slots[row->slot], Py_NewRef(value));
        if (whole) {
            struct_keep(self, value);
        }
    }
    if (self->odd != NULL && PyDict_Contains(self->odd, row->name) > 0) {
        return PyDict_DelItem(self->odd, row->name);
    }
    return 0;
}

/* As PyObject_GenericSetAttr, which would look the name up in all classes. */
static int struct_setattr(PyObject *self, PyObject *name, PyObject *value)
{
    struct row *row = PyUnicode_Check(name) ? row_named(((Struct *)self)->program, name) : NULL;
    return row == NULL ? PyObject_GenericSetAttr(self, name, value)
                       : struct_set((Struct *)self, row, value);
}

bool struct_peek(Struct *self, const struct row *row, uint8_t *to)
{
    letter letter = row->letters[0];
    if (self->odd != NULL) {
        PyObject *odd = PyDict_GetItemWithError(self->odd, row->name);
        if (odd != NULL) {
            return int_write(to, letter, odd);
        }
    }
    memcpy(to, struct_bytes(self) + row->offset, row->size);
    return true;
}

/* ---- making ---- */

static Program *program_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &module_definition);
    struct state *state = module == NULL ? NULL : PyModule_GetState(module);
    PyObject *found = state == NULL ? NULL
                                    : PyDict_GetItemWithError(state->types, (PyObject *)type);
    if (found == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%.100s has no fields: it is no struct", type->tp_name);
    }
    return (Program *)found;
}

/* An array as a tuple of at least so many; zeros fill up what was not given. */
static PyObject *padded(PyObject *value, Py_ssize_t count)
{
    PyObject *given = PySequence_Tuple(value);
    Py_ssize_t size = given == NULL ? count : PyTuple_GET_SIZE(given);
    if (size >= count) {
        return given;
    }
    PyObject *tuple = PyTuple_New(count), *zero = PyLong_FromLong(0);
    for (Py_ssize_t at = 0; tuple != NULL && zero != NULL && at < count; at++) {
        PyTuple_SET_ITEM(tuple, at, Py_NewRef(at < size ? PyTuple_GET_ITEM(given, at) : zero));
    }
    Py_DECREF(given);
    Py_XDECREF(zero);
    return tuple;
}

static PyObject *filled_up(PyObject *value, Py_ssize_t size)
{
    Py_ssize_t given = PyObject_Size(value);
    if (given < 0) {
        return NULL;
    }
    return given == size ? Py_NewRef(value)
                         : PyObject_CallMethod(value, "ljust", "ny#", size, "", (Py_ssize_t)1);
}

/* The attribute that a keyword gives: short arrays are filled up, None is a fresh struct. */
static int give(Struct *self, const struct row *row, PyObject *value)
{
    PyObject *made;
    bool bytes = row->program == NULL && row->letters[0] == 0;
    if ((row->kind == STRUCT || row->kind == UNION) && value == Py_None) {
        return 0;
    }
    if (row->kind == INTS || (row->kind == TAIL && !bytes)) {
        made = padded(value, (Py_ssize_t)row->count);
    } else if (row->kind == OCTETS) {
        made = filled_up(value, (Py_ssize_t)row->size);
    } else {
        return struct_set(self, row, value);
    }
    int result = made == NULL ? -1 : struct_set(self, row, made);
    Py_XDECREF(made);
    return result;
}

static int give_named(Struct *self, PyObject *name, PyObject *value)
{
    struct row *row = row_named(self->program, name);
    if (row == NULL) {
        PyErr_Format(PyExc_TypeError, "%.100s() got an unexpected keyword argument '%U'",
                     Py_TYPE(self)->tp_name, name);
        return -1;
    }
    return give(self, row, value);
}

PyObject *struct_call(PyObject *type, PyObject *const *args, size_t flags, PyObject *names)
{
    Program *program = program_of_type((PyTypeObject *)type);
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (program != NULL && count > 0) {
        PyErr_Format(PyExc_TypeError, "%.100s() takes keywords only",
                     ((PyTypeObject *)type)->tp_name);
        return NULL;
    }
    Struct *self = program == NULL ? NULL : struct_blank(program);
    Py_ssize_t given = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t at = 0; self != NULL && at < given; at++) {
        if (give_named(self, PyTuple_GET_ITEM(names, at), args[at]) < 0) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

static PyObject *struct_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                            PyObject *Py_UNUSED(keywords))
{
    Program *program = program_of_type(type);
    if (program != NULL && program->factory != type) {
        PyErr_SetString(PyExc_TypeError, "a class that is not that of its table");
        return NULL;
    }
    return program == NULL ? NULL : (PyObject *)struct_blank(program);
}

static int struct_init(Struct *self, PyObject *args, PyObject *keywords)
{
    PyObject *name, *value;
    Py_ssize_t place = 0;
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_Format(PyExc_TypeError, "%.100s() takes keywords only", Py_TYPE(self)->tp_name);
        return -1;
    }
    while (keywords != NULL && PyDict_Next(keywords, &place, &name, &value)) {
        if (give_named(self, name, value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Whether a class adds nothing to what its objects are here. */
bool struct_is_plain_class(PyTypeObject *type)
{
    return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) &&
           type->tp_basicsize == (Py_ssize_t)offsetof(Struct, slots) && type->tp_itemsize == 1 &&
           type->tp_dictoffset == 0 && type->tp_weaklistoffset == 0 && type->tp_del == NULL &&
           type->tp_finalize == NULL;
}

/* Shorter ways to make and to drop objects of a class, as it adds nothing. */
void struct_adopt(PyTypeObject *type)
{
    PyTypeObject *meta = Py_TYPE(type);
    type->tp_dealloc = (destructor)struct_dealloc;
    if (type->tp_new == struct_new && type->tp_init == (initproc)struct_init &&
        meta->tp_call == PyType_Type.tp_call &&
        meta->tp_vectorcall_offset == offsetof(PyTypeObject, tp_vectorcall)) {
        type->tp_vectorcall = struct_call;
        meta->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL; /* 3.11 forgets it for a class in Python */
    }
}

/* ---- methods ---- */

static PyObject *struct_pack(PyObject *self, PyObject *Py_UNUSED(none))
{
    Program *program = ((Struct *)self)->program;
    if (program->apart_count == 0 && ((Struct *)self)->odd == NULL) {
        return PyBytes_FromStringAndSize((const char *)struct_bytes((Struct *)self),
                                         (Py_ssize_t)program->fixed);
    }
    Py_ssize_t size = program_measure(program, self);
    PyObject *bytes = size < 0 ? NULL : PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL) {
        if (program_write(program, self, (uint8_t *)PyBytes_AS_STRING(bytes), (size_t)size,
                          false)) {
            return bytes;
        }
        Py_DECREF(bytes);
    }
    return ask_twin(program, 0, &self, 1, NULL);
}

static PyObject *struct_packed_size(Struct *self, PyObject *Py_UNUSED(none))
{
    const struct row *tail = self->program->tail;
    if (tail == NULL) {
        return PyLong_FromSize_t(self->program->size);
    }
    PyObject *held = struct_get(self, tail);
    Py_ssize_t count = held == NULL ? -1 : PyObject_Size(held);
    Py_XDECREF(held);
    if (count < 0) {
        return NULL;
    }
    if (count > (Py_ssize_t)(PY_SSIZE_T_MAX / 2 / tail->step)) {
        return PyErr_NoMemory();
    }
    return PyLong_FromSize_t(tail->offset + (size_t)count * tail->step);
}

/* Whether all attributes are there; AttributeError names one that is not. */
static bool is_whole(Struct *self)
{
    Py_ssize_t place = 0;
    PyObject *name, *value;
    while (self->odd != NULL && PyDict_Next(self->odd, &place, &name, &value)) {
        if (value == (PyObject *)self->program) {
            no_attribute(self, row_named(self->program, name));
            return false;
        }
    }
    return true;
}

/* A copy that shares the nested objects: those that nobody asked for are made first. */
static Struct *copy(Struct *self)
{
    Program *program = self->program;
    if (!is_whole(self)) {
        return NULL;
    }
    for (size_t at = 0; at < program->apart_count; at++) {
        const struct row *row = program->apart[at];
        if (row->kind == STRUCT && self->slots[row->slot] == NULL &&
            (self->odd == NULL || PyDict_Contains(self->odd, row->name) == 0)) {
            PyObject *made = struct_get(self, row);
            if (made == NULL) {
                return NULL;
            }
            Py_DECREF(made);
        }
    }
    Struct *other = struct_alloc(program);
    if (other == NULL) {
        return NULL;
    }
    memcpy(struct_bytes(other), struct_bytes(self), program->fixed);
    for (uint32_t at = 0; at < program->slots; at++) {
        other->slots[at] = Py_XNewRef(self->slots[at]);
    }
    if (self->odd != NULL) {
        other->odd = PyDict_Copy(self->odd);
        if (other->odd == NULL) {
            Py_CLEAR(other);
            return NULL;
        }
    }
    if (PyObject_GC_IsTracked((PyObject *)self)) {
        PyObject_GC_Track(other);
    }
    return other;
}

static PyObject *struct_replace(Struct *self, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    if (count > 0) {
        PyErr_SetString(PyExc_TypeError, "replace() takes keywords only");
        return NULL;
    }
    Struct *other = copy(self);
    Py_ssize_t given = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t at = 0; other != NULL && at < given; at++) {
        PyObject *name = PyTuple_GET_ITEM(names, at);
        struct row *row = row_named(self->program, name);
        int result = row != NULL ? struct_set(other, row, args[at])
                                 : PyObject_SetAttr((PyObject *)other, name, args[at]);
        if (result < 0) {
            Py_CLEAR(other);
        }
    }
    return (PyObject *)other;
}

/* 1 or 0 where bytes are enough to tell; -1 where they are not. */
static int bytes_equal(Struct *one, Struct *two)
{
    Program *program = one->program;
    if (one->odd != NULL || two->odd != NULL) {
        return -1;
    }
    for (size_t at = 0; at < program->apart_count; at++) {
        const struct row *row = program->apart[at];
        if (one->slots[row->slot] != NULL || two->slots[row->slot] != NULL) {
            return -1;
        }
    }
    return memcmp(struct_bytes(one), struct_bytes(two), program->fixed) == 0;
}

static int structs_equal(Struct *one, Struct *two)
{
    int result = bytes_equal(one, two);
    if (result >= 0) {
        return result;
    }
    if (!is_whole(one) || !is_whole(two)) {
        return -1;
    }
    result = 1;
    for (size_t at = 0; result == 1 && at < one->program->row_count; at++) {
        const struct row *row = &one->program->rows[at];
        PyObject *left = struct_get(one, row);
        PyObject *right = left == NULL ? NULL : struct_get(two, row);
        result = right == NULL ? -1 : PyObject_RichCompareBool(left, right, Py_EQ);
        Py_XDECREF(left);
        Py_XDECREF(right);
    }
    return result;
}

static PyObject *struct_compare(PyObject *self, PyObject *other, int how)
{
    if ((how != Py_EQ && how != Py_NE) || !Py_IS_TYPE(other, Py_TYPE(self)) ||
        ((Struct *)other)->program != ((Struct *)self)->program) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int equal = structs_equal((Struct *)self, (Struct *)other);
    return equal < 0 ? NULL : PyBool_FromLong(equal == (how == Py_EQ));
}

static PyMethodDef methods[] = {
    {"pack", struct_pack, METH_NOARGS,
     "The bytes, little endian. ValueError names a field that its type cannot hold."},
    {"packed_size", (PyCFunction)struct_packed_size, METH_NOARGS, "How many bytes `pack` makes."},
    {"replace", (PyCFunction)(void (*)(void))struct_replace, METH_FASTCALL | METH_KEYWORDS,
     "A copy with some fields changed; nested structs are shared, not copied."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot struct_slots[] = {
    {Py_tp_doc, "The base of every wire struct; see labsim.pure.structs.Struct."},
    {Py_tp_new, struct_new},
    {Py_tp_init, struct_init},
    {Py_tp_setattro, struct_setattr},
    {Py_tp_methods, methods},
    {Py_tp_richcompare, struct_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_traverse, struct_traverse},
    {Py_tp_clear, struct_clear},
    {Py_tp_dealloc, struct_dealloc},
    {0, NULL},
};

PyType_Spec struct_spec = {
    .name = "labsim._wire.Struct",
    .basicsize = offsetof(Struct, slots),
    .itemsize = 1,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = struct_slots,
};
