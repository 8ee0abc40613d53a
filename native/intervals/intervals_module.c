/* Python's view of the interval tree: the type labsim._intervals.IntervalTree.
 *
 * Holds no rule of its own but argument checks; the documentation stands in the twin,
 * labsim/pure/intervals.py. Values are copied out before Python objects are made, because that may
 * run Python code, and with it other calls on the same tree.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "intervals.h"

#define FEW 32

typedef struct {
    PyObject_HEAD
    struct intervals tree;
} IntervalTree;

/* ---- arguments ---- */

static int as_u64(PyObject *object, uint64_t *number)
{
    PyObject *whole = PyNumber_Index(object);
    if (whole == NULL) {
        return -1;
    }
    *number = PyLong_AsUnsignedLongLong(whole);
    Py_DECREF(whole);
    return *number == UINT64_MAX && PyErr_Occurred() ? -1 : 0;
}

static int as_range(PyObject *const *args, struct interval *interval)
{
    if (as_u64(args[0], &interval->start) < 0 || as_u64(args[1], &interval->end) < 0) {
        return -1;
    }
    if (interval->start > interval->end) {
        PyErr_SetString(PyExc_ValueError, "an interval ends before it starts");
        return -1;
    }
    return 0;
}

static int check_count(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, %zd given", name, wanted, given);
    return -1;
}

static void release(void *value)
{
    Py_DECREF((PyObject *)value);
}

/* ---- changes ---- */

static PyObject *tree_insert(IntervalTree *self, PyObject *const *args, Py_ssize_t count)
{
    struct interval interval;
    if (check_count("insert", count, 4) < 0 || as_range(args, &interval) < 0 ||
        as_u64(args[2], &interval.key) < 0) {
        return NULL;
    }
    switch (intervals_insert(&self->tree, &interval, args[3])) {
    case INTERVALS_NO_MEMORY:
        return PyErr_NoMemory();
    case INTERVALS_EXISTS:
        PyErr_SetObject(PyExc_KeyError, args[2]);
        return NULL;
    default:
        Py_INCREF(args[3]);
        Py_RETURN_NONE;
    }
}

static PyObject *tree_remove(IntervalTree *self, PyObject *const *args, Py_ssize_t count)
{
    struct interval interval;
    if (check_count("remove", count, 3) < 0 || as_range(args, &interval) < 0 ||
        as_u64(args[2], &interval.key) < 0) {
        return NULL;
    }
    PyObject *value = intervals_remove(&self->tree, &interval);
    if (value == NULL) {
        PyErr_SetObject(PyExc_KeyError, args[2]);
    }
    return value;
}

/* ---- questions ---- */

static PyObject *tree_overlaps(IntervalTree *self, PyObject *const *args, Py_ssize_t count)
{
    struct interval interval;
    if (check_count("overlaps", count, 2) < 0 || as_range(args, &interval) < 0) {
        return NULL;
    }
    return PyBool_FromLong(intervals_overlap(&self->tree, interval.start, interval.end));
}

struct found {
    PyObject **items;
    size_t count;
    size_t room;
    PyObject *few[FEW];
};

static int take(void *context, const struct interval_node *node)
{
    struct found *found = context;
    if (found->count == found->room) {
        size_t room = found->room * 4;
        PyObject **items = PyMem_New(PyObject *, room);
        if (items == NULL) {
            return -1;
        }
        memcpy(items, found->items, found->count * sizeof *items);
        if (found->items != found->few) {
            PyMem_Free(found->items);
        }
        found->items = items;
        found->room = room;
    }
    found->items[found->count++] = Py_NewRef((PyObject *)node->value);
    return 0;
}

/* A list of what meets a range; it takes the references over. */
static PyObject *search(IntervalTree *self, uint64_t start, uint64_t end)
{
    struct found found = {.count = 0, .room = FEW};
    found.items = found.few;
    int result = intervals_search(&self->tree, start, end, take, &found);
    PyObject *list = result == 0 ? PyList_New((Py_ssize_t)found.count) : PyErr_NoMemory();
    for (size_t at = 0; at < found.count; at++) {
        if (list != NULL) {
            PyList_SET_ITEM(list, (Py_ssize_t)at, found.items[at]);
        } else {
            Py_DECREF(found.items[at]);
        }
    }
    if (found.items != found.few) {
        PyMem_Free(found.items);
    }
    return list;
}

static PyObject *tree_search(IntervalTree *self, PyObject *const *args, Py_ssize_t count)
{
    struct interval interval;
    if (check_count("search", count, 2) < 0 || as_range(args, &interval) < 0) {
        return NULL;
    }
    return search(self, interval.start, interval.end);
}

static PyObject *tree_next_start(IntervalTree *self, PyObject *position)
{
    uint64_t at;
    if (as_u64(position, &at) < 0) {
        return NULL;
    }
    if (!intervals_next_start(&self->tree, at, &at)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(at);
}

static Py_ssize_t tree_length(IntervalTree *self)
{
    return (Py_ssize_t)self->tree.count;
}

static PyObject *tree_iter(IntervalTree *self)
{
    PyObject *list = search(self, 0, UINT64_MAX);
    PyObject *iterator = list == NULL ? NULL : PyObject_GetIter(list);
    Py_XDECREF(list);
    return iterator;
}

/* ---- the type ---- */

struct visiting {
    visitproc visit;
    void *arg;
};

static int visit_value(void *context, const struct interval_node *node)
{
    struct visiting *visiting = context;
    return visiting->visit((PyObject *)node->value, visiting->arg);
}

static int tree_traverse(IntervalTree *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    struct visiting visiting = {visit, arg};
    return intervals_search(&self->tree, 0, UINT64_MAX, visit_value, &visiting);
}

static int tree_forget(IntervalTree *self)
{
    intervals_reset(&self->tree, release);
    return 0;
}

static void tree_dealloc(IntervalTree *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    tree_forget(self);
    type->tp_free(self);
    Py_DECREF(type);
}

#define FAST(name, flags) {#name, (PyCFunction)(void (*)(void))tree_##name, flags, NULL}

static PyMethodDef methods[] = {
    FAST(insert, METH_FASTCALL),
    FAST(remove, METH_FASTCALL),
    FAST(overlaps, METH_FASTCALL),
    FAST(search, METH_FASTCALL),
    FAST(next_start, METH_O),
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Intervals that may overlap; see labsim.pure.intervals.IntervalTree."},
    {Py_tp_dealloc, tree_dealloc},
    {Py_tp_traverse, tree_traverse},
    {Py_tp_clear, tree_forget},
    {Py_tp_iter, tree_iter},
    {Py_sq_length, tree_length},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "labsim._intervals.IntervalTree",
    .basicsize = sizeof(IntervalTree),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int result = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "labsim._intervals",
    .m_doc = "The interval tree in C.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__intervals(void)
{
    return PyModuleDef_Init(&module_definition);
}
