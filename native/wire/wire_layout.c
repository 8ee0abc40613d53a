/* Compiles the plans of a format's buffers; see wire_layout.h. */
#include "wire_layout.h"

static void layout_free(PyObject *capsule)
{
    struct layout *layout = PyCapsule_GetPointer(capsule, NULL);
    for (size_t at = 0; at < layout->count; at++) {
        struct part *part = &layout->parts[at];
        for (size_t index = 0; index < part->choice_count; index++) {
            Py_XDECREF(part->choices[index].program);
        }
        PyMem_Free(part->choices);
        Py_XDECREF(part->key);
        Py_XDECREF(part->make);
        Py_XDECREF(part->program);
    }
    Py_XDECREF(layout->buffers);
    PyMem_Free(layout);
}

static int part_records(struct state *state, PyObject *records, struct part *part)
{
    PyObject *items = PyMapping_Items(records);
    if (items == NULL) {
        return -1;
    }
    size_t count = (size_t)PyList_GET_SIZE(items);
    part->choices = PyMem_Calloc(count + 1, sizeof *part->choices);
    int result = part->choices == NULL ? -1 : 0;
    for (size_t at = 0; result == 0 && at < count; at++) {
        PyObject *pair = PyList_GET_ITEM(items, (Py_ssize_t)at);
        struct choice *choice = &part->choices[part->choice_count++];
        choice->value = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(pair, 0));
        choice->program = program_of(state, PyTuple_GET_ITEM(pair, 1));
        if (choice->program == NULL || choice->program->size != part->size ||
            choice->program->tail != NULL || choice->program->first == NULL) {
            result = -1;
        }
    }
    Py_DECREF(items);
    return result;
}

static PyObject *attribute(PyObject *object, const char *name, PyTypeObject *type)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    if (value != NULL && !PyObject_TypeCheck(value, type)) {
        PyErr_Format(PyExc_TypeError, "%s of a plan: %R", name, value);
        Py_CLEAR(value);
    }
    return value;
}

/* A number, also of an enumeration or a bool; -1 with an exception. */
static long number_of(PyObject *object, const char *name)
{
    PyObject *value = attribute(object, name, &PyLong_Type);
    long number = value == NULL ? -1 : PyLong_AsLong(value);
    Py_XDECREF(value);
    return number;
}

static int part_compile(struct state *state, PyObject *plan, struct part *part)
{
    long kind = number_of(plan, "part"), size = number_of(plan, "size");
    long open = number_of(plan, "open"), view = number_of(plan, "view");
    if (kind < 0 || size < 0 || open < 0 || view < 0) {
        return -1;
    }
    part->kind = (enum part_kind)kind;
    part->size = (size_t)size;
    part->open = open != 0;
    part->view = view != 0;
    part->key = attribute(plan, "key", &PyUnicode_Type);
    part->letter_count = get_letters(plan, part->letters);
    if (part->key == NULL || part->letter_count < 0) {
        return -1;
    }
    PyObject *table = PyObject_GetAttrString(plan, "table");
    PyObject *make = PyObject_GetAttrString(plan, "make");
    PyObject *records = PyObject_GetAttrString(plan, "records");
    int result = table == NULL || make == NULL || records == NULL ? -1 : 0;
    if (result == 0 && table != Py_None) {
        part->program = program_of(state, table);
        result = part->program == NULL || part->program->size == 0 ? -1 : 0;
    }
    if (result == 0 && make != Py_None) {
        PyTypeObject *type = (PyTypeObject *)make;
        bool plain = PyType_Check(make) && PyType_IsSubtype(type, &PyTuple_Type) &&
                     type->tp_basicsize == PyTuple_Type.tp_basicsize && type->tp_dictoffset == 0;
        part->make = plain ? (PyTypeObject *)Py_NewRef(make) : NULL;
        result = plain ? 0 : -1;
    }
    if (result == 0) {
        result = part_records(state, records, part);
    }
    Py_XDECREF(table);
    Py_XDECREF(make);
    Py_XDECREF(records);
    return result;
}

/* Whether a part has all that its kind needs. */
static bool part_whole(const struct part *part)
{
    size_t bytes = 0;
    for (int at = 0; at < part->letter_count; at++) {
        bytes += (size_t)(part->letters[at] < 0 ? -part->letters[at] : part->letters[at]);
    }
    switch (part->kind) {
    case ONE:
    case SEVERAL:
        return part->program != NULL && part->program->size == part->size;
    case NUMBER:
    case NUMBERS:
        return part->letter_count == 1 && bytes == part->size;
    case NAME:
        return part->letter_count > 0 && bytes == part->size && part->make != NULL;
    case REINT:
        return part->size >= 4;
    default:
        return part->kind <= REINT;
    }
}

PyObject *layout_new(struct state *state, PyObject *buffers)
{
    if (!PyTuple_Check(buffers) || PyTuple_GET_SIZE(buffers) >= (Py_ssize_t)WIRE_BUFFERS) {
        PyErr_SetString(PyExc_TypeError, "a layout is a tuple of few buffers");
        return NULL;
    }
    struct layout *layout = PyMem_Calloc(1, sizeof *layout);
    PyObject *capsule = layout == NULL ? NULL : PyCapsule_New(layout, NULL, layout_free);
    if (capsule == NULL) {
        PyMem_Free(layout);
        return PyErr_NoMemory();
    }
    layout->buffers = Py_NewRef(buffers);
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(buffers); at++) {
        struct part *part = &layout->parts[layout->count++];
        PyObject *plan = PyObject_GetAttrString(PyTuple_GET_ITEM(buffers, at), "plan");
        int result = plan == NULL ? -1 : part_compile(state, plan, part);
        Py_XDECREF(plan);
        if (result < 0 || !part_whole(part)) {
            Py_DECREF(capsule);
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_TypeError, "a plan that C cannot follow");
            }
            return NULL;
        }
    }
    return capsule;
}
