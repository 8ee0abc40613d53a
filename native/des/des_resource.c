/* BaseResource and its demands, Put and Get: queues of events, served as far as possible. */
#include "des_py.h"

/* ---- lists as queues ---- */

/* list.pop(at), of an exact list. */
PyObject *list_take(PyObject *list, Py_ssize_t at)
{
    PyListObject *items = (PyListObject *)list;
    Py_ssize_t last = Py_SIZE(list) - 1;
    PyObject *item = items->ob_item[at];
    memmove(items->ob_item + at, items->ob_item + at + 1,
            (size_t)(last - at) * sizeof *items->ob_item);
    Py_SET_SIZE(list, last);
    return item;
}

static PyObject *queue_take(State *st, PyObject *queue, Py_ssize_t at)
{
    if (PyList_CheckExact(queue) && at < PyList_GET_SIZE(queue)) {
        return list_take(queue, at);
    }
    PyObject *number = PyLong_FromSsize_t(at);
    PyObject *item = number == NULL ? NULL : PyObject_CallMethodOneArg(queue, st->s_pop, number);
    Py_XDECREF(number);
    return item;
}

static int queue_append(State *st, PyObject *queue, PyObject *event)
{
    if (PyList_CheckExact(queue)) {
        return PyList_Append(queue, event);
    }
    PyObject *none = PyObject_CallMethodOneArg(queue, st->s_append, event);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

/* ---- serving ---- */

static int is_triggered(State *st, PyObject *event)
{
    if (is_event(st, event)) {
        return ((Event *)event)->value != NULL;
    }
    PyObject *answer = PyObject_GetAttrString(event, "triggered");
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* resource._do_put(event) or _do_get. */
static int serve(Resource *self, bool put, PyObject *event, bool *proceed)
{
    int kind = put ? self->do_put : self->do_get;
    State *st = self->env->st;
    if (kind != DO_PYTHON && is_event(st, event)) {
        return stores_do(self, kind, event, proceed);
    }
    PyObject *answer = PyObject_CallMethodOneArg((PyObject *)self,
                                                 put ? st->s_do_put : st->s_do_get, event);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    *proceed = truth > 0;
    Py_XDECREF(answer);
    return truth < 0 ? -1 : 0;
}

/* The same for a plain queue and a native way to serve, which runs no Python code but may drop
 * the last reference to something, so that the queue is looked at anew each time. */
static int try_plain(Resource *self, bool put)
{
    bool proceed = true;
    for (Py_ssize_t at = 0; proceed;) {
        PyObject *queue = put ? self->put_queue : self->get_queue;
        if (!PyList_CheckExact(queue) || at >= PyList_GET_SIZE(queue)) {
            return 0;
        }
        PyObject *event = Py_NewRef(PyList_GET_ITEM(queue, at));
        int result = stores_do(self, put ? self->do_put : self->do_get, event, &proceed);
        if (result == 0 && ((Event *)event)->value == NULL) {
            at++;
        } else if (result == 0) {
            queue = put ? self->put_queue : self->get_queue;
            if (PyList_CheckExact(queue) && at < PyList_GET_SIZE(queue) &&
                PyList_GET_ITEM(queue, at) == event) {
                Py_DECREF(list_take(queue, at));
            } else {
                PyErr_Format(PyExc_RuntimeError, "%s queue invariant violated",
                             put ? "Put" : "Get");
                result = -1;
            }
        }
        Py_DECREF(event);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

/* Serve what waits in the queue, as long as _do_put (or _do_get) says so. */
static int try_all(Resource *self, bool put)
{
    State *st = self->env->st;
    bool proceed = true;
    int result = 0;
    for (Py_ssize_t at = 0; result == 0 && proceed;) {
        PyObject *queue = Py_XNewRef(put ? self->put_queue : self->get_queue);
        PyObject *event = NULL;
        Py_ssize_t size = queue == NULL ? 0 : PyObject_Size(queue);
        if (size <= at) {
            Py_XDECREF(queue);
            return size < 0 ? -1 : 0;
        }
        event = PySequence_GetItem(queue, at);
        result = event == NULL ? -1 : serve(self, put, event, &proceed);
        int triggered = result < 0 ? -1 : is_triggered(st, event);
        if (triggered == 0) {
            at++;
        } else if (triggered > 0) {
            Py_SETREF(queue, Py_NewRef(put ? self->put_queue : self->get_queue));
            PyObject *taken = queue_take(st, queue, at);
            int other = taken == NULL ? -1 : PyObject_RichCompareBool(taken, event, Py_NE);
            if (other > 0) {
                PyErr_Format(PyExc_RuntimeError, "%s queue invariant violated",
                             put ? "Put" : "Get");
            }
            Py_XDECREF(taken);
            result = other == 0 ? 0 : -1;
        } else {
            result = -1;
        }
        Py_XDECREF(event);
        Py_DECREF(queue);
    }
    return result;
}

static bool idle(Resource *self, bool put)
{
    PyObject *queue = put ? self->put_queue : self->get_queue;
    return PyList_CheckExact(queue) && PyList_GET_SIZE(queue) == 0;
}

/* The callback of events that make room, respectively bring something. */
static int try_one(Resource *self, bool put)
{
    if (put ? self->own_put : self->own_get) {
        State *st = self->env->st;
        PyObject *none = PyObject_CallMethodOneArg(
            (PyObject *)self, put ? st->s_trigger_put : st->s_trigger_get, Py_None);
        Py_XDECREF(none);
        return none == NULL ? -1 : 0;
    }
    if (idle(self, put)) {
        return 0;
    }
    bool plain = (put ? self->do_put : self->do_get) != DO_PYTHON &&
                 PyList_CheckExact(put ? self->put_queue : self->get_queue);
    return (plain ? try_plain : try_all)(self, put);
}

int resource_try_put(Resource *self)
{
    return try_one(self, true);
}

int resource_try_get(Resource *self)
{
    return try_one(self, false);
}

/* ---- BaseResource ---- */

static void note_overrides(Resource *self, State *st)
{
    PyObject *own = (PyObject *)self;
    self->do_put = self->do_get = DO_PYTHON;
    for (int kind = 0; kind < DO_PYTHON; kind += 2) {
        if (!(self->patched & P_DO_PUT) && !overridden(own, st->s_do_put, st->d_do[kind])) {
            self->do_put = (uint8_t)kind;
        }
        if (!(self->patched & P_DO_GET) && !overridden(own, st->s_do_get, st->d_do[kind + 1])) {
            self->do_get = (uint8_t)(kind + 1);
        }
    }
    self->own_put = self->patched & P_TRY_PUT ||
                    overridden(own, st->s_trigger_put, st->d_trigger_put);
    self->own_get = self->patched & P_TRY_GET ||
                    overridden(own, st->s_trigger_get, st->d_trigger_get);
    self->own_release = self->patched & P_RELEASE ||
                        overridden(own, st->s_release, (PyObject *)st->Release);
    self->own_capacity = overridden(own, st->s_capacity, st->d_capacity);
}

static double plain(PyObject *number)
{
    if (PyLong_CheckExact(number)) {
        int overflow;
        long long whole = PyLong_AsLongLongAndOverflow(number, &overflow);
        return overflow || whole > DES_EXACT || whole < -DES_EXACT ? Py_NAN : (double)whole;
    }
    return PyFloat_CheckExact(number) ? PyFloat_AS_DOUBLE(number) : Py_NAN;
}

static void set_room(Resource *self, PyObject *capacity)
{
    Py_XSETREF(self->capacity, Py_NewRef(capacity));
    self->room = plain(capacity);
}

int resource_positive(PyObject *number)
{
    PyObject *zero = PyLong_FromLong(0);
    int result = zero == NULL ? -1 : PyObject_RichCompareBool(number, zero, Py_LE);
    Py_XDECREF(zero);
    return result < 0 ? -1 : !result;
}

static PyObject *make_queue(Resource *self, const char *name)
{
    PyObject *type = PyObject_GetAttrString((PyObject *)self, name);
    PyObject *queue = type == NULL ? NULL : PyObject_CallNoArgs(type);
    Py_XDECREF(type);
    return queue;
}

int resource_setup(Resource *self, PyObject *env, PyObject *capacity)
{
    State *st = state_of(Py_TYPE(self));
    if (as_env(st, env) == NULL) {
        return -1;
    }
    Py_XSETREF(self->env, (Env *)Py_NewRef(env));
    set_room(self, capacity);
    note_overrides(self, st);
    Py_XSETREF(self->put_queue, make_queue(self, "PutQueue"));
    Py_XSETREF(self->get_queue, make_queue(self, "GetQueue"));
    if (self->put_queue == NULL || self->get_queue == NULL) {
        return -1;
    }
    return 0;
}

static int base_init(Resource *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "capacity", NULL};
    PyObject *env, *capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:BaseResource", names, &env, &capacity)) {
        return -1;
    }
    return resource_setup(self, env, capacity);
}

int resource_traverse(Resource *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->env);
    Py_VISIT(self->capacity);
    Py_VISIT(self->put_queue);
    Py_VISIT(self->get_queue);
    Py_VISIT(self->held);
    return 0;
}

int resource_clear(Resource *self)
{
    Py_CLEAR(self->put_queue);
    Py_CLEAR(self->get_queue);
    Py_CLEAR(self->held);
    Py_CLEAR(self->capacity);
    Py_CLEAR(self->env);
    return 0;
}

void resource_dealloc(Resource *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, resource_dealloc)
    if (self->weak != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    resource_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

/* As the generic one, but notices when a method is replaced on the instance. */
static int resource_setattro(Resource *self, PyObject *name, PyObject *value)
{
    if (PyObject_GenericSetAttr((PyObject *)self, name, value) < 0) {
        return -1;
    }
    State *st = state_of(Py_TYPE(self));
    PyObject *names[] = {st->s_do_put, st->s_do_get, st->s_trigger_put, st->s_trigger_get,
                         st->s_release};
    for (int at = 0; at < 5; at++) {
        if (PyUnicode_Compare(name, names[at]) == 0) {
            int bit = 1 << at;
            self->patched = (uint8_t)(value != NULL ? self->patched | bit : self->patched & ~bit);
            note_overrides(self, st);
        }
    }
    return 0;
}

static bool is_set_up(Resource *self)
{
    if (self->env == NULL || self->put_queue == NULL || self->get_queue == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '_env'",
                     Py_TYPE(self)->tp_name);
        return false;
    }
    return true;
}

static PyObject *method_try_put(Resource *self, PyObject *Py_UNUSED(event))
{
    if (!is_set_up(self) || try_all(self, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *method_try_get(Resource *self, PyObject *Py_UNUSED(event))
{
    if (!is_set_up(self) || try_all(self, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *not_implemented(PyObject *self, PyObject *Py_UNUSED(event))
{
    PyErr_SetObject(PyExc_NotImplementedError, self);
    return NULL;
}

static PyObject *get_capacity(Resource *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->capacity == NULL ? Py_None : self->capacity);
}

static int set_capacity(Resource *self, PyObject *value, void *Py_UNUSED(closure))
{
    set_room(self, value == NULL ? Py_None : value);
    return 0;
}

static PyObject **queue_of(Resource *self, void *put)
{
    return put != NULL ? &self->put_queue : &self->get_queue;
}

static PyObject *get_queue(Resource *self, void *put)
{
    return is_set_up(self) ? Py_NewRef(*queue_of(self, put)) : NULL;
}

static int set_queue(Resource *self, PyObject *value, void *put)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the queues stay");
        return -1;
    }
    Py_XSETREF(*queue_of(self, put), Py_NewRef(value));
    return 0;
}

static PyMethodDef base_methods[] = {
    {"_trigger_put", (PyCFunction)method_try_put, METH_O, "Serve the put requests that can be."},
    {"_trigger_get", (PyCFunction)method_try_get, METH_O, "Serve the get requests that can be."},
    {"_do_put", not_implemented, METH_O, "Trigger the put event if it can be served."},
    {"_do_get", not_implemented, METH_O, "Trigger the get event if it can be served."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS},
    {NULL}};

static PyGetSetDef base_getset[] = {
    {"capacity", (getter)get_capacity, NULL, "How much the resource can hold."},
    {"_capacity", (getter)get_capacity, (setter)set_capacity},
    {"put_queue", (getter)get_queue, (setter)set_queue, "The put requests that wait.", "put"},
    {"get_queue", (getter)get_queue, (setter)set_queue, "The get requests that wait.", NULL},
    {NULL}};

static PyMemberDef base_members[] = {
    {"_env", T_OBJECT_EX, offsetof(Resource, env), READONLY},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Resource, weak), READONLY},
    {NULL}};

static PyType_Slot base_slots[] = {
    {Py_tp_doc, "Something that processes share: put requests and get requests wait in queues."},
    {Py_tp_init, base_init},
    {Py_tp_new, PyType_GenericNew},
    GC_SLOTS(resource),
    {Py_tp_setattro, resource_setattro},
    {Py_tp_methods, base_methods},
    {Py_tp_getset, base_getset},
    {Py_tp_members, base_members},
    {0, NULL}};

static PyType_Spec base_spec = {"labsim._des.BaseResource", sizeof(Resource),
                                0, TYPE_FLAGS, base_slots};

/* ---- Put and Get ---- */

int demand_traverse(Demand *self, visitproc visit, void *arg)
{
    Py_VISIT(self->resource);
    Py_VISIT(self->proc);
    Py_VISIT(self->extra);
    return event_traverse(&self->base, visit, arg);
}

int demand_clear(Demand *self)
{
    Py_CLEAR(self->resource);
    Py_CLEAR(self->proc);
    Py_CLEAR(self->extra);
    return event_clear(&self->base);
}

EVENT_DEALLOC(demand_dealloc, demand_clear)

static int add_callback(Resource *resource, Demand *self, bool put)
{
    if (!(put ? resource->own_get : resource->own_put)) {
        return event_add(&self->base, put ? K_TRY_GET : K_TRY_PUT, (PyObject *)resource);
    }
    State *st = resource->env->st;
    PyObject *method = PyObject_GetAttr((PyObject *)resource,
                                        put ? st->s_trigger_get : st->s_trigger_put);
    int result = method == NULL ? -1 : event_add(&self->base, K_CALL, method);
    Py_XDECREF(method);
    return result;
}

/* Queue up at the resource, and be served at once if possible; after event_setup. */
int demand_enter(Demand *self, PyObject *object, bool put)
{
    Resource *resource = (Resource *)object;
    Env *env = self->base.env;
    State *st = env->st;
    Py_XSETREF(self->resource, Py_NewRef(object));
    Py_XSETREF(self->proc, Py_NewRef(env->active == NULL ? Py_None : env->active));
    PyObject *queue = put ? resource->put_queue : resource->get_queue;
    int kind = put ? resource->do_put : resource->do_get;
    bool own = put ? resource->own_put : resource->own_get;
    if (kind != DO_PYTHON && !own && !env->own_schedule && self->base.flags & F_EXACT &&
        idle(resource, put)) {
        bool proceed; /* nobody waits: try without the queue */
        if (add_callback(resource, self, put) < 0 ||
            stores_do(resource, kind, (PyObject *)self, &proceed) < 0) {
            return -1;
        }
        return self->base.value != NULL ? 0 : PyList_Append(queue, (PyObject *)self);
    }
    Py_INCREF(queue);
    int result = queue_append(st, queue, (PyObject *)self);
    Py_DECREF(queue);
    if (result < 0 || add_callback(resource, self, put) < 0) {
        return -1;
    }
    return try_one(resource, put);
}

int demand_init(Demand *self, PyObject *resource, bool put)
{
    State *st = state_of(Py_TYPE(self));
    if (!is_a(resource, st->BaseResource)) {
        PyErr_Format(PyExc_TypeError, "a BaseResource is needed, not %.200s",
                     Py_TYPE(resource)->tp_name);
        return -1;
    }
    if (!is_set_up((Resource *)resource)) {
        return -1;
    }
    event_setup(&self->base, ((Resource *)resource)->env);
    return demand_enter(self, resource, put);
}

/* The fast way to construct a demand of an exact type with a fixed number of arguments. */
PyObject *demand_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names,
                            Py_ssize_t arguments, PyTypeObject *of, PyTypeObject **seen,
                            bool put)
{
    if (PyVectorcall_NARGS(nargsf) != arguments || names != NULL || of == NULL ||
        !is_seen(args[0], of, seen) || !is_set_up((Resource *)args[0])) {
        PyErr_Clear();
        return construct_slowly(type, args, nargsf, names);
    }
    Resource *resource = (Resource *)args[0];
    Demand *self = (Demand *)event_alloc(resource->env->st, (PyTypeObject *)type);
    if (self == NULL) {
        return NULL;
    }
    self->base.env = (Env *)Py_NewRef(resource->env);
    self->base.flags = F_EXACT;
    self->extra = arguments > 1 ? Py_NewRef(args[1]) : NULL;
    if (demand_enter(self, args[0], put) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int init_demand(Demand *self, PyObject *args, PyObject *kwargs, bool put)
{
    static char *names[] = {"resource", NULL};
    PyObject *resource;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &resource)) {
        return -1;
    }
    return demand_init(self, resource, put);
}

static int put_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    return init_demand(self, args, kwargs, true);
}

static int get_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    return init_demand(self, args, kwargs, false);
}

/* Leave the queue, unless served already. */
int demand_cancel(Demand *self, bool put)
{
    State *st = state_of(Py_TYPE(self));
    if (self->base.value != NULL) {
        return 0;
    }
    PyObject *resource = self->resource == NULL ? Py_None : self->resource;
    PyObject *queue = PyObject_GetAttr(resource, put ? st->s_put_queue : st->s_get_queue);
    PyObject *none = queue == NULL ? NULL
                                   : PyObject_CallMethodOneArg(queue, st->s_remove,
                                                               (PyObject *)self);
    Py_XDECREF(queue);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static PyObject *put_cancel(Demand *self, PyObject *Py_UNUSED(none))
{
    return demand_cancel(self, true) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *get_cancel(Demand *self, PyObject *Py_UNUSED(none))
{
    return demand_cancel(self, false) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *demand_with(PyObject *self, PyObject *Py_UNUSED(none))
{
    return Py_NewRef(self);
}

static PyObject *demand_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "__exit__ takes 3 arguments");
        return NULL;
    }
    return PyObject_CallMethodNoArgs(self, state_of(Py_TYPE(self))->s_cancel);
}

static PyMethodDef put_methods[] = {
    {"cancel", (PyCFunction)put_cancel, METH_NOARGS, "Leave the queue."},
    {"__enter__", demand_with, METH_NOARGS},
    {"__exit__", FUNCTION(demand_exit), METH_FASTCALL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS},
    {NULL}};

static PyMethodDef get_methods[] = {
    {"cancel", (PyCFunction)get_cancel, METH_NOARGS, "Leave the queue."},
    {"__enter__", demand_with, METH_NOARGS},
    {"__exit__", FUNCTION(demand_exit), METH_FASTCALL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS},
    {NULL}};

static PyMemberDef demand_members[] = {
    {"resource", T_OBJECT_EX, offsetof(Demand, resource), 0, "The resource it is for."},
    {"proc", T_OBJECT_EX, offsetof(Demand, proc), 0, "The process that asked, or None."},
    {NULL}};

static PyType_Slot put_slots[] = {
    {Py_tp_doc, "A request to put something into a resource."},
    {Py_tp_init, put_init},
    GC_SLOTS(demand),
    {Py_tp_methods, put_methods},
    {Py_tp_members, demand_members},
    {0, NULL}};

static PyType_Slot get_slots[] = {
    {Py_tp_doc, "A request to get something out of a resource."},
    {Py_tp_init, get_init},
    GC_SLOTS(demand),
    {Py_tp_methods, get_methods},
    {Py_tp_members, demand_members},
    {0, NULL}};

static PyType_Spec put_spec = {"labsim.runtime.des.resources.base.Put", sizeof(Demand), 0,
                               TYPE_FLAGS, put_slots};
static PyType_Spec get_spec = {"labsim.runtime.des.resources.base.Get", sizeof(Demand), 0,
                               TYPE_FLAGS, get_slots};

int resource_exec(PyObject *module, State *st)
{
    st->BaseResource = add_type(module, &base_spec, NULL);
    st->Put = add_type(module, &put_spec, st->Event);
    st->Get = add_type(module, &get_spec, st->Event);
    if (st->BaseResource == NULL || st->Put == NULL || st->Get == NULL) {
        return -1;
    }
    PyObject *base = (PyObject *)st->BaseResource;
    st->d_trigger_put = PyObject_GetAttr(base, st->s_trigger_put);
    st->d_trigger_get = PyObject_GetAttr(base, st->s_trigger_get);
    st->d_capacity = PyObject_GetAttr(base, st->s_capacity);
    if (st->d_trigger_put == NULL || st->d_trigger_get == NULL || st->d_capacity == NULL ||
        PyObject_SetAttrString(base, "PutQueue", (PyObject *)&PyList_Type) < 0 ||
        PyObject_SetAttrString(base, "GetQueue", (PyObject *)&PyList_Type) < 0 ||
        bind_class(st, st->BaseResource, "put", st->Put) < 0 ||
        bind_class(st, st->BaseResource, "get", st->Get) < 0) {
        return -1;
    }
    return stores_exec(module, st);
}
