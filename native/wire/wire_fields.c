/* What a class is made with: a descriptor for each field, and its unpack.
 *
 * labsim.wire.schema puts them into a class body by `space`; `settle` ties them to the program of
 * the finished class. See labsim/pure/structs.py.
 */
#include "wire_program.h"

typedef struct {
    PyObject_HEAD
    Program *program; /* NULL until it is settled */
    struct row *row;
    size_t at;     /* of INT: where it lies in an object */
    letter letter; /* of INT; of others 0 */
} Field;

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Program *program; /* NULL until it is settled */
} Unpacker;

/* ---- fields ---- */

/* The object whose bytes have this field; NULL with an exception if it is none. */
static inline Struct *owner(Field *field, PyObject *object)
{
    Program *program = field->program;
    if (program != NULL && Py_IS_TYPE(object, program->factory) &&
        ((Struct *)object)->program == program) {
        return (Struct *)object;
    }
    PyErr_Format(PyExc_TypeError, "descriptor '%S' for '%.100s' objects doesn't apply to a '%.100s'"
                 " object", program == NULL ? Py_None : field->row->name,
                 program == NULL ? "no" : program->factory->tp_name, Py_TYPE(object)->tp_name);
    return NULL;
}

static PyObject *field_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    if (object == NULL) {
        return Py_NewRef(self);
    }
    Field *field = (Field *)self;
    Struct *value = owner(field, object);
    if (value != NULL && field->letter != 0 && value->odd == NULL) {
        return struct_int(field->program, (const uint8_t *)value + field->at, field->letter);
    }
    return value == NULL ? NULL : struct_get(value, field->row);
}

static int field_set(PyObject *self, PyObject *object, PyObject *given)
{
    Struct *value = owner((Field *)self, object);
    return value == NULL ? -1 : struct_set(value, ((Field *)self)->row, given);
}

static PyObject *field_name(Field *self, void *Py_UNUSED(closure))
{
    return self->row == NULL ? Py_NewRef(Py_None) : Py_NewRef(self->row->name);
}

/* No tp_clear here and below: they are as unchangeable as tuples; their class lets go of them. */
static int field_traverse(Field *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->program);
    return 0;
}

static void field_dealloc(Field *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->program);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyGetSetDef field_getset[] = {
    {"__name__", (getter)field_name, NULL, "The attribute.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot field_slots[] = {
    {Py_tp_doc, "A field of a wire struct."},
    {Py_tp_descr_get, field_get},
    {Py_tp_descr_set, field_set},
    {Py_tp_getset, field_getset},
    {Py_tp_traverse, field_traverse},
    {Py_tp_dealloc, field_dealloc},
    {0, NULL},
};

PyType_Spec field_spec = {
    .name = "labsim._wire.Field",
    .basicsize = sizeof(Field),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = field_slots,
};

/* ---- unpack ---- */

static PyObject *unpacker_call(PyObject *self, PyObject *const *args, size_t flags,
                               PyObject *names)
{
    Program *program = ((Unpacker *)self)->program;
    Py_ssize_t count = PyVectorcall_NARGS(flags), offset = 0;
    PyObject *value = NULL;
    Py_buffer view;
    if (program == NULL) {
        PyErr_SetString(PyExc_TypeError, "unpack of no class");
        return NULL;
    }
    if (count == 2 && PyLong_CheckExact(args[1])) {
        offset = PyLong_AsSsize_t(args[1]); /* negative: an error, or counted from the end */
    }
    if (names != NULL || count < 1 || count > 2 || offset < 0 ||
        (count == 2 && !PyLong_CheckExact(args[1]))) {
        return ask_twin(program, 1, args, (size_t)count, names);
    }
    if (PyBytes_CheckExact(args[0])) {
        value = program_read(program, (const uint8_t *)PyBytes_AS_STRING(args[0]),
                             (size_t)PyBytes_GET_SIZE(args[0]), (size_t)offset, false);
    } else if (plain_bytes(args[0], &view)) {
        value = program_read(program, view.buf, (size_t)view.len, (size_t)offset, false);
        PyBuffer_Release(&view);
    }
    return value != NULL ? value : ask_twin(program, 1, args, (size_t)count, names);
}

static int unpacker_traverse(Unpacker *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->program);
    return 0;
}

static void unpacker_dealloc(Unpacker *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->program);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef unpacker_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Unpacker, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot unpacker_slots[] = {
    {Py_tp_doc, "unpack(buffer, offset=0) of one struct; see labsim.pure.structs.Struct."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, unpacker_members},
    {Py_tp_traverse, unpacker_traverse},
    {Py_tp_dealloc, unpacker_dealloc},
    {0, NULL},
};

PyType_Spec unpacker_spec = {
    .name = "labsim._wire.Unpacker",
    .basicsize = sizeof(Unpacker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = unpacker_slots,
};

/* ---- a class ---- */

static int put_unpacker(struct state *state, PyObject *space)
{
    Unpacker *made = (Unpacker *)state->unpacker_type->tp_alloc(state->unpacker_type, 0);
    if (made == NULL) {
        return -1;
    }
    made->call = unpacker_call;
    int result = PyDict_SetItemString(space, "unpack", (PyObject *)made);
    Py_DECREF(made);
    return result;
}

PyObject *fields_space(PyObject *module, PyObject *names)
{
    struct state *state = PyModule_GetState(module);
    PyObject *given = PySequence_Tuple(names);
    PyObject *none = given == NULL ? NULL : PyTuple_New(0);
    PyObject *space = none == NULL ? NULL : PyDict_New();
    int result = space == NULL ? -1 : PyDict_SetItemString(space, "__slots__", none);
    if (result == 0) {
        result = put_unpacker(state, space);
    }
    for (Py_ssize_t at = 0; result == 0 && at < PyTuple_GET_SIZE(given); at++) {
        PyObject *field = state->field_type->tp_alloc(state->field_type, 0);
        result = field == NULL ? -1 : PyDict_SetItem(space, PyTuple_GET_ITEM(given, at), field);
        Py_XDECREF(field);
    }
    Py_XDECREF(given);
    Py_XDECREF(none);
    if (result < 0) {
        Py_CLEAR(space);
    }
    return space;
}

/* One of a class's own attributes, of a type that is not settled yet. */
static PyObject *own(PyObject *space, PyObject *name, PyTypeObject *type)
{
    PyObject *found = PyObject_GetItem(space, name);
    if (found != NULL && !Py_IS_TYPE(found, type)) {
        PyErr_Format(PyExc_TypeError, "%R is no field of the class", name);
        Py_CLEAR(found);
    }
    return found;
}

static int settle_fields(struct state *state, PyObject *space, Program *program)
{
    for (size_t at = 0; at < program->row_count; at++) {
        struct row *row = &program->rows[at];
        Field *field = (Field *)own(space, row->name, state->field_type);
        if (field == NULL || field->program != NULL) {
            Py_XDECREF(field);
            return -1;
        }
        field->row = row;
        field->letter = row->kind == INT ? row->letters[0] : 0;
        field->at = offsetof(Struct, slots) + program->slots * sizeof(PyObject *) + row->offset;
        field->program = (Program *)Py_NewRef((PyObject *)program);
        Py_DECREF(field);
    }
    PyObject *name = PyUnicode_FromString("unpack");
    Unpacker *unpacker = name == NULL ? NULL
                                      : (Unpacker *)own(space, name, state->unpacker_type);
    int result = unpacker == NULL || unpacker->program != NULL ? -1 : 0;
    if (result == 0) {
        unpacker->program = (Program *)Py_NewRef((PyObject *)program);
    }
    Py_XDECREF(name);
    Py_XDECREF(unpacker);
    return result;
}

PyObject *fields_settle(PyObject *module, PyObject *cls)
{
    struct state *state = PyModule_GetState(module);
    PyObject *table = PyObject_GetAttrString(cls, "table");
    Program *program = table == NULL ? NULL : program_of(state, table);
    PyObject *space = program == NULL ? NULL : PyObject_GetAttrString(cls, "__dict__");
    int result = space == NULL ? -1 : 0;
    if (result == 0 && (PyObject *)program->factory != cls) {
        PyErr_SetString(PyExc_TypeError, "a table of another class");
        result = -1;
    }
    if (result == 0) {
        result = settle_fields(state, space, program);
    }
    if (result == 0) {
        result = PyDict_SetItem(state->types, cls, (PyObject *)program);
    }
    if (result == 0) {
        struct_adopt((PyTypeObject *)cls);
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_TypeError, "a class that is settled");
    }
    Py_XDECREF(table);
    Py_XDECREF(program);
    Py_XDECREF(space);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}
