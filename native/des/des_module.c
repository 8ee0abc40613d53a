/* The module labsim._des: its state, the memory of events, BoundClass, and the types together.
 *
 * Holds the event kernel of simulations with SimPy's API; labsim.runtime.des is its face, which
 * also gives the exceptions. Each part of the API is documented by SimPy's own documentation.
 */
#include "des_py.h"

/* ---- state ---- */

State *state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &des_module);
    return module == NULL ? NULL : PyModule_GetState(module);
}

bool overridden(PyObject *object, PyObject *name, PyObject *builtin)
{
    PyObject *here = PyObject_GetAttr((PyObject *)Py_TYPE(object), name);
    PyErr_Clear();
    bool result = here != builtin;
    Py_XDECREF(here);
    return result;
}

PyObject *class_name(PyObject *self)
{
    return PyObject_GetAttrString((PyObject *)Py_TYPE(self), "__name__");
}

/* ---- memory of events ---- */

#ifdef DES_NO_FREE_LISTS
#define KEEP 0
#else
#define KEEP 8192
#endif

#define EVENT_SMALL offsetof(Event, queued)

#if defined(__GNUC__) && !defined(__clang__)
#define FEW __attribute__((optimize("no-tree-loop-distribute-patterns"))) /* no call of memset */
#else
#define FEW
#endif

/* One from the free list, which the collector does not know yet; NULL when there is none. */
FEW PyObject *event_take(State *st, PyTypeObject *type)
{
    size_t words = (size_t)type->tp_basicsize / sizeof(void *);
    freed *old = words < SIZES ? st->free[words] : NULL;
    if (old == NULL || type->tp_itemsize != 0 || type->tp_alloc != PyType_GenericAlloc) {
        return NULL;
    }
    st->free[words] = old->next;
    st->freed[words]--;
    Event *event = (Event *)old;
    event->env = NULL;
    event->value = event->slot[0] = event->slot[1] = event->dict = event->weak = NULL;
    memset((char *)event + EVENT_SMALL, 0, sizeof *event - EVENT_SMALL);
    for (size_t at = sizeof(Event) / sizeof(void *); at < words; at++) {
        ((void **)old)[at] = NULL;
    }
    PyObject *self = (PyObject *)old;
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS) || PY_VERSION_HEX >= 0x030D0000
    PyObject_Init(self, type);
#else /* the same without the look at tracemalloc */
    Py_SET_TYPE(self, type);
    Py_SET_REFCNT(self, 1);
    Py_INCREF(type);
#endif
    return self;
}

PyObject *event_alloc(State *st, PyTypeObject *type)
{
    PyObject *self = event_take(st, type);
    if (self == NULL) {
        return type->tp_alloc(type, 0);
    }
    PyObject_GC_Track(self);
    return self;
}

void event_recycle(State *st, PyObject *self, PyTypeObject *type)
{
    size_t words = (size_t)type->tp_basicsize / sizeof(void *);
    if (st != NULL && words < SIZES && st->freed[words] < KEEP && type->tp_itemsize == 0 &&
        type->tp_alloc == PyType_GenericAlloc && type->tp_free == PyObject_GC_Del) {
        freed *old = (freed *)self;
        old->next = st->free[words];
        st->free[words] = old;
        st->freed[words]++;
    } else {
        type->tp_free(self);
    }
    Py_DECREF(type);
}

/* tp_vectorcall's way for what its fast path does not take: as if there were no tp_vectorcall. */
PyObject *construct_slowly(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    PyObject *tuple = PyTuple_New(count), *kwargs = NULL, *self = NULL;
    for (Py_ssize_t at = 0; tuple != NULL && at < count; at++) {
        PyTuple_SET_ITEM(tuple, at, Py_NewRef(args[at]));
    }
    if (tuple != NULL && names != NULL) {
        kwargs = PyDict_New();
        for (Py_ssize_t at = 0; kwargs != NULL && at < PyTuple_GET_SIZE(names); at++) {
            if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(names, at), args[count + at]) < 0) {
                Py_CLEAR(kwargs);
            }
        }
    }
    if (tuple != NULL && (names == NULL || kwargs != NULL)) {
        self = PyType_Type.tp_call(type, tuple, kwargs);
    }
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return self;
}

PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

/* ---- BoundClass ---- */

typedef struct {
    PyObject_HEAD
    PyObject *cls;
    vectorcallfunc call;
} BoundClass;

/* Called as an unbound method: the instance is the first argument already. */
static PyObject *bound_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    PyObject *cls = ((BoundClass *)self)->cls;
    if (PyType_Check(cls) && ((PyTypeObject *)cls)->tp_vectorcall != NULL) {
        return ((PyTypeObject *)cls)->tp_vectorcall(cls, args, nargsf, names);
    }
    return PyObject_Vectorcall(cls, args, nargsf, names);
}

static PyObject *bound_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"cls", NULL};
    PyObject *cls;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:BoundClass", names, &cls)) {
        return NULL;
    }
    BoundClass *self = (BoundClass *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->cls = Py_NewRef(cls);
        self->call = bound_call;
    }
    return (PyObject *)self;
}

static int bound_traverse(BoundClass *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->cls);
    return 0;
}

static int bound_clear(BoundClass *self)
{
    Py_CLEAR(self->cls);
    return 0;
}

static void bound_dealloc(BoundClass *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    bound_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *bound_get(BoundClass *self, PyObject *instance, PyObject *Py_UNUSED(owner))
{
    return instance == NULL ? Py_NewRef(self->cls) : PyMethod_New(self->cls, instance);
}

/* Bind those that the instance's own class has to the instance. */
static PyObject *bind_early(PyObject *Py_UNUSED(type), PyObject *instance)
{
    State *st = state_of(Py_TYPE(instance));
    PyObject *names = st == NULL ? NULL : PyMapping_Keys(Py_TYPE(instance)->tp_dict);
    for (Py_ssize_t at = 0; names != NULL && at < PyList_GET_SIZE(names); at++) {
        PyObject *name = PyList_GET_ITEM(names, at);
        PyObject *found = PyDict_GetItemWithError(Py_TYPE(instance)->tp_dict, name);
        if (found != NULL && Py_IS_TYPE(found, st->BoundClass)) {
            PyObject *method = PyObject_GetAttr(instance, name);
            if (method == NULL || PyObject_SetAttr(instance, name, method) < 0) {
                Py_CLEAR(names);
            }
            Py_XDECREF(method);
        }
    }
    if (names == NULL) {
        return NULL;
    }
    Py_DECREF(names);
    Py_RETURN_NONE;
}

static PyMethodDef bound_methods[] = {
    {"bind_early", bind_early, METH_O | METH_STATIC, "Bind a class's BoundClasses to an instance."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS},
    {NULL}};

static PyMemberDef bound_members[] = {
    {"cls", T_OBJECT_EX, offsetof(BoundClass, cls), READONLY},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(BoundClass, call), READONLY},
    {NULL}};

static PyType_Slot bound_slots[] = {
    {Py_tp_doc, "Makes a class behave like a method: its first argument is the instance."},
    {Py_tp_new, bound_new},
    {Py_tp_dealloc, bound_dealloc},
    {Py_tp_traverse, bound_traverse},
    {Py_tp_clear, bound_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, bound_get},
    {Py_tp_methods, bound_methods},
    {Py_tp_members, bound_members},
    {0, NULL}};

static PyType_Spec bound_spec = {"labsim.runtime.des.core.BoundClass", sizeof(BoundClass), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                     Py_TPFLAGS_HAVE_VECTORCALL |
                                     Py_TPFLAGS_METHOD_DESCRIPTOR |
                                     Py_TPFLAGS_IMMUTABLETYPE, /* or calls are not specialised */
                                 bound_slots};

int bind_class(State *st, PyTypeObject *to, const char *name, PyTypeObject *cls)
{
    PyObject *bound = PyObject_CallOneArg((PyObject *)st->BoundClass, (PyObject *)cls);
    int result = bound == NULL ? -1 : PyObject_SetAttrString((PyObject *)to, name, bound);
    Py_XDECREF(bound);
    return result;
}

/* ---- the module ---- */

static PyObject *module_link(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"Interrupt", "StopSimulation", "EmptySchedule", "describe_frame", NULL};
    State *st = PyModule_GetState(module);
    PyObject *given[4];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:link", names, &given[0], &given[1],
                                     &given[2], &given[3])) {
        return NULL;
    }
    Py_XSETREF(st->Interrupt, Py_NewRef(given[0]));
    Py_XSETREF(st->StopSimulation, Py_NewRef(given[1]));
    Py_XSETREF(st->EmptySchedule, Py_NewRef(given[2]));
    Py_XSETREF(st->describe_frame, Py_NewRef(given[3]));
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"link", FUNCTION(module_link), METH_VARARGS | METH_KEYWORDS,
     "Take the exceptions and helpers that are written in Python."},
    {NULL}};

static int intern_names(State *st)
{
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&st->s_schedule, "schedule"},   {&st->s_step, "step"},
        {&st->s_callbacks, "callbacks"}, {&st->s_append, "append"},
        {&st->s_throw, "throw"},         {&st->s_send, "send"},
        {&st->s_args, "args"},           {&st->s_resume, "_resume"},
        {&st->s_ok, "_ok"},              {&st->s_value, "_value"},
        {&st->s_defused, "_defused"},    {&st->s_check, "_check"},
        {&st->s_build_value, "_build_value"}, {&st->s_interrupt, "_interrupt"},
        {&st->s_succeed, "succeed"},     {&st->s_fail, "fail"},
        {&st->s_populate_value, "_populate_value"},
        {&st->s_remove_check, "_remove_check_callbacks"},
        {&st->s_do_put, "_do_put"},      {&st->s_do_get, "_do_get"},
        {&st->s_trigger_put, "_trigger_put"}, {&st->s_trigger_get, "_trigger_get"},
        {&st->s_capacity, "capacity"},   {&st->s_pop, "pop"},
        {&st->s_release, "release"},     {&st->s_cancel, "cancel"},
        {&st->s_callback, "callback"},   {&st->s_name, "__name__"},
        {&st->s_gi_frame, "gi_frame"},   {&st->s_remove, "remove"},
        {&st->s_put_queue, "put_queue"}, {&st->s_get_queue, "get_queue"},
        {&st->s_desc, "_desc"},
    };
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        if ((*names[at].name = PyUnicode_InternFromString(names[at].text)) == NULL) {
            return -1;
        }
    }
    return 0;
}

static int module_exec(PyObject *module)
{
    State *st = PyModule_GetState(module);
    st->pending = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    st->infinity = PyFloat_FromDouble(Py_HUGE_VAL);
    st->BoundClass = add_type(module, &bound_spec, NULL);
    if (st->pending == NULL || st->infinity == NULL || st->BoundClass == NULL ||
        intern_names(st) < 0 || PyModule_AddObjectRef(module, "PENDING", st->pending) < 0 ||
        PyModule_AddObjectRef(module, "Infinity", st->infinity) < 0) {
        return -1;
    }
    if (env_exec(module, st) < 0 || event_exec(module, st) < 0 || process_exec(module, st) < 0 ||
        condition_exec(module, st) < 0 || resource_exec(module, st) < 0) {
        return -1;
    }
    PyTypeObject *env = st->Environment;
    return bind_class(st, env, "process", st->Process) || bind_class(st, env, "event", st->Event) ||
           bind_class(st, env, "timeout", st->Timeout) ||
           bind_class(st, env, "all_of", st->AllOf) || bind_class(st, env, "any_of", st->AnyOf)
               ? -1 : 0;
}

/* All object pointers of the state stand together, from its start to `free`. */
#define POINTERS (offsetof(State, free) / sizeof(PyObject *))

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    PyObject **pointers = PyModule_GetState(module);
    for (size_t at = 0; at < POINTERS; at++) {
        Py_VISIT(pointers[at]);
    }
    return 0;
}

static int module_clear(PyObject *module)
{
    PyObject **pointers = PyModule_GetState(module);
    for (size_t at = 0; at < POINTERS; at++) {
        Py_CLEAR(pointers[at]);
    }
    return 0;
}

static void module_free(void *module)
{
    State *st = PyModule_GetState(module);
    module_clear(module);
    for (int words = 0; words < SIZES; words++) {
        while (st->free[words] != NULL) {
            freed *old = st->free[words];
            st->free[words] = old->next;
            Py_SET_TYPE((PyObject *)old, &PyTuple_Type); /* its own may be gone: any GC type */
            PyObject_GC_Del(old);
        }
        st->freed[words] = KEEP; /* nothing more is kept */
    }
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

struct PyModuleDef des_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "labsim._des",
    .m_doc = "An event kernel with SimPy's API and event order.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__des(void)
{
    return PyModuleDef_Init(&des_module);
}
