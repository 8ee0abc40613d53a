/* Python's view of the extent map: the type labsim._extents.ExtentMap.
 *
 * Holds no rule of its own but argument checks; the documentation stands in the twin,
 * labsim/pure/extents.py. Arguments become C numbers before the map is looked at, and extents are
 * copied out before Python objects are made of them, because both may run Python code.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "extents.h"

#define FEW 16

typedef struct {
    PyObject_HEAD
    struct extents map;
    PyObject *merge; /* or NULL */
    bool busy;       /* within merge */
} ExtentMap;

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

static int as_range(PyObject *const *args, uint64_t *start, uint64_t *end)
{
    if (as_u64(args[0], start) < 0 || as_u64(args[1], end) < 0) {
        return -1;
    }
    if (*start > *end) {
        PyErr_SetString(PyExc_ValueError, "an extent ends before it starts");
        return -1;
    }
    return 0;
}

static int check_count(const char *name, Py_ssize_t given, Py_ssize_t low, Py_ssize_t high)
{
    if (given >= low && given <= high) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd to %zd arguments, %zd given", name, low, high,
                 given);
    return -1;
}

static int check_free(ExtentMap *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the extent map is changed by its own merge");
        return -1;
    }
    return 0;
}

static int check_offset(uint64_t offset, uint64_t length)
{
    if (offset > EXTENTS_EOF - length) {
        PyErr_SetString(PyExc_OverflowError, "the offset runs past 64 bits within the extent");
        return -1;
    }
    return 0;
}

/* ---- what the core calls ---- */

static void retain(void *value)
{
    Py_INCREF((PyObject *)value);
}

static void release(void *value)
{
    Py_DECREF((PyObject *)value);
}

static PyObject *piece(const struct extent *extent)
{
    return Py_BuildValue("KKOK", (unsigned long long)extent->start,
                         (unsigned long long)extent->end, (PyObject *)extent->value,
                         (unsigned long long)extent->offset);
}

/* Take (value, offset) out of what merge gave. */
static int merged(PyObject *answer, uint64_t length, void **value, uint64_t *offset)
{
    if (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 2 ||
        PyTuple_GET_ITEM(answer, 0) == Py_None) {
        PyErr_SetString(PyExc_TypeError, "merge gives (value, offset) or None");
        return -1;
    }
    if (as_u64(PyTuple_GET_ITEM(answer, 1), offset) < 0 || check_offset(*offset, length) < 0) {
        return -1;
    }
    *value = Py_NewRef(PyTuple_GET_ITEM(answer, 0));
    return 1;
}

static int ask_merge(void *context, const struct extent *left, const struct extent *right,
                     void **value, uint64_t *offset)
{
    ExtentMap *self = context;
    uint64_t length = right->end - left->start;
    int result = -1;
    self->busy = true; /* making tuples may run the collector, and that anything */
    PyObject *one = piece(left), *two = one == NULL ? NULL : piece(right);
    if (two != NULL) {
        PyObject *answer = PyObject_CallFunctionObjArgs(self->merge, one, two, NULL);
        if (answer == Py_None) {
            result = 0;
        } else if (answer != NULL) {
            result = merged(answer, length, value, offset);
        }
        Py_XDECREF(answer);
    }
    Py_XDECREF(one);
    Py_XDECREF(two);
    self->busy = false;
    return result;
}

static struct extents_calls calls_of(ExtentMap *self)
{
    struct extents_calls calls = {retain, self->merge == NULL ? NULL : ask_merge, self};
    return calls;
}

/* Let go of what a change removed, now that the map is whole again. */
static void let_go(struct extent_drops *drops)
{
    for (size_t at = 0; at < drops->count; at++) {
        release(drops->values[at]);
    }
    extent_drops_free(drops);
}

/* ---- changes ---- */

static PyObject *map_insert(ExtentMap *self, PyObject *const *args, Py_ssize_t count)
{
    struct extent extent = {0, 0, 0, NULL};
    if (check_free(self) < 0 || check_count("insert", count, 3, 4) < 0 ||
        as_range(args, &extent.start, &extent.end) < 0 ||
        (count == 4 && as_u64(args[3], &extent.offset) < 0)) {
        return NULL;
    }
    if (args[2] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "None stands for a hole; use punch");
        return NULL;
    }
    if (check_offset(extent.offset, extent.end - extent.start) < 0) {
        return NULL;
    }
    if (extent.start == extent.end) {
        Py_RETURN_NONE;
    }
    extent.value = Py_NewRef(args[2]);
    struct extents_calls calls = calls_of(self);
    struct extent_drops drops;
    extent_drops_init(&drops);
    enum extents_result result = extents_insert(&self->map, &calls, &extent, &drops);
    if (result == EXTENTS_NO_MEMORY) {
        PyErr_NoMemory();
        Py_DECREF(args[2]);
    }
    let_go(&drops);
    if (result != EXTENTS_OK) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *punch(ExtentMap *self, uint64_t start, uint64_t end)
{
    uint64_t gone = 0;
    if (start < end) {
        struct extents_calls calls = calls_of(self);
        struct extent_drops drops;
        extent_drops_init(&drops);
        gone = self->map.total;
        enum extents_result result = extents_punch(&self->map, &calls, start, end, &drops);
        gone -= self->map.total;
        let_go(&drops);
        if (result != EXTENTS_OK) {
            return PyErr_NoMemory();
        }
    }
    return PyLong_FromUnsignedLongLong(gone);
}

static PyObject *map_punch(ExtentMap *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start, end;
    if (check_free(self) < 0 || check_count("punch", count, 2, 2) < 0 ||
        as_range(args, &start, &end) < 0) {
        return NULL;
    }
    return punch(self, start, end);
}

static PyObject *map_truncate(ExtentMap *self, PyObject *size)
{
    uint64_t start;
    if (check_free(self) < 0 || as_u64(size, &start) < 0) {
        return NULL;
    }
    return punch(self, start, EXTENTS_EOF);
}

static PyObject *map_clear(ExtentMap *self, PyObject *Py_UNUSED(ignored))
{
    if (check_free(self) < 0) {
        return NULL;
    }
    extents_reset(&self->map, release);
    Py_RETURN_NONE;
}

/* ---- questions ---- */

/* The extents in a range, cut to it, with a reference each. */
struct cut {
    struct extent *items;
    size_t count;
    struct extent few[FEW];
};

static int cut_out(ExtentMap *self, uint64_t start, uint64_t end, struct cut *cut)
{
    struct extent_place place = extents_seek(&self->map, start);
    cut->count = start < end ? extents_count(&self->map, place, end) : 0;
    cut->items = cut->few;
    if (cut->count > FEW) {
        cut->items = PyMem_New(struct extent, cut->count);
        if (cut->items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    for (size_t at = 0; at < cut->count; at++) {
        struct extent item = *extents_at(&self->map, place);
        if (item.start < start) {
            item.offset += start - item.start;
            item.start = start;
        }
        item.end = item.end > end ? end : item.end;
        retain(item.value);
        cut->items[at] = item;
        place = extents_next(&self->map, place);
    }
    return 0;
}

static void cut_free(struct cut *cut)
{
    for (size_t at = 0; at < cut->count; at++) {
        release(cut->items[at].value);
    }
    if (cut->items != cut->few) {
        PyMem_Free(cut->items);
    }
}

static int append(PyObject *list, const struct extent *extent)
{
    PyObject *tuple = piece(extent);
    int result = tuple == NULL ? -1 : PyList_Append(list, tuple);
    Py_XDECREF(tuple);
    return result;
}

static int append_hole(PyObject *list, uint64_t start, uint64_t end)
{
    struct extent hole = {start, end, 0, Py_None};
    return start < end ? append(list, &hole) : 0;
}

static PyObject *pieces(ExtentMap *self, uint64_t start, uint64_t end)
{
    struct cut cut;
    if (cut_out(self, start, end, &cut) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list != NULL && at < cut.count; at++) {
        if (append(list, &cut.items[at]) < 0) {
            Py_CLEAR(list);
        }
    }
    cut_free(&cut);
    return list;
}

static PyObject *map_pieces(ExtentMap *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start = 0, end = EXTENTS_EOF;
    if (check_count("pieces", count, 0, 2) < 0 || (count > 0 && as_u64(args[0], &start) < 0) ||
        (count > 1 && as_range(args, &start, &end) < 0)) {
        return NULL;
    }
    return pieces(self, start, end);
}

static PyObject *map_walk(ExtentMap *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start, end;
    struct cut cut;
    if (check_count("walk", count, 2, 2) < 0 || as_range(args, &start, &end) < 0 ||
        cut_out(self, start, end, &cut) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list != NULL && at < cut.count; at++) {
        const struct extent *item = &cut.items[at];
        if (append_hole(list, start, item->start) < 0 || append(list, item) < 0) {
            Py_CLEAR(list);
        }
        start = item->end;
    }
    if (list != NULL && append_hole(list, start, end) < 0) {
        Py_CLEAR(list);
    }
    cut_free(&cut);
    return list;
}

static PyObject *map_covered(ExtentMap *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start, end;
    if (check_count("covered", count, 2, 2) < 0 || as_range(args, &start, &end) < 0) {
        return NULL;
    }
    return PyBool_FromLong(start == end || extents_next_hole(&self->map, start) >= end);
}

static PyObject *map_next_data(ExtentMap *self, PyObject *position)
{
    uint64_t at;
    if (as_u64(position, &at) < 0) {
        return NULL;
    }
    if (!extents_next_data(&self->map, at, &at)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(at);
}

static PyObject *map_next_hole(ExtentMap *self, PyObject *position)
{
    uint64_t at;
    if (as_u64(position, &at) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(extents_next_hole(&self->map, at));
}

static PyObject *map_total(ExtentMap *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->map.total);
}

static PyObject *map_end(ExtentMap *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(extents_end(&self->map));
}

static Py_ssize_t map_length(ExtentMap *self)
{
    return (Py_ssize_t)self->map.count;
}

static PyObject *map_iter(ExtentMap *self)
{
    PyObject *list = pieces(self, 0, EXTENTS_EOF);
    PyObject *iterator = list == NULL ? NULL : PyObject_GetIter(list);
    Py_XDECREF(list);
    return iterator;
}

/* ---- the type ---- */

static PyObject *map_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"merge", NULL};
    PyObject *merge = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:ExtentMap", names, &merge)) {
        return NULL;
    }
    ExtentMap *self = (ExtentMap *)type->tp_alloc(type, 0); /* all zero: an empty map */
    if (self != NULL && merge != Py_None) {
        self->merge = Py_NewRef(merge);
    }
    return (PyObject *)self;
}

static int map_traverse(ExtentMap *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->merge);
    for (size_t run = 0; run < self->map.run_count; run++) {
        for (uint32_t item = 0; item < self->map.runs[run].count; item++) {
            Py_VISIT((PyObject *)self->map.runs[run].items[item].value);
        }
    }
    return 0;
}

static int map_forget(ExtentMap *self)
{
    Py_CLEAR(self->merge);
    extents_reset(&self->map, release);
    return 0;
}

static void map_dealloc(ExtentMap *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    map_forget(self);
    type->tp_free(self);
    Py_DECREF(type);
}

#define FAST(name, flags) {#name, (PyCFunction)(void (*)(void))map_##name, flags, NULL}

static PyMethodDef methods[] = {
    FAST(insert, METH_FASTCALL),
    FAST(punch, METH_FASTCALL),
    FAST(truncate, METH_O),
    FAST(clear, METH_NOARGS),
    FAST(pieces, METH_FASTCALL),
    FAST(walk, METH_FASTCALL),
    FAST(covered, METH_FASTCALL),
    FAST(next_data, METH_O),
    FAST(next_hole, METH_O),
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"total", (getter)map_total, NULL, "Bytes that hold data.", NULL},
    {"end", (getter)map_end, NULL, "One past the last byte that holds data.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Byte ranges to values; see labsim.pure.extents.ExtentMap."},
    {Py_tp_new, map_new},
    {Py_tp_dealloc, map_dealloc},
    {Py_tp_traverse, map_traverse},
    {Py_tp_clear, map_forget},
    {Py_tp_iter, map_iter},
    {Py_sq_length, map_length},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "labsim._extents.ExtentMap",
    .basicsize = sizeof(ExtentMap),
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
    .m_name = "labsim._extents",
    .m_doc = "The extent map in C.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__extents(void)
{
    return PyModuleDef_Init(&module_definition);
}
