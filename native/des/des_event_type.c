/* Event and Timeout as Python sees them: construction, success and failure, attributes. */
#include "des_py.h"

/* ---- construction ---- */

EVENT_DEALLOC(event_dealloc, event_clear)

static int event_init(Event *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", NULL};
    PyObject *env;
    State *st = state_of(Py_TYPE(self));
    if (st == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:Event", names, &env) ||
        as_env(st, env) == NULL) {
        return -1;
    }
    event_setup(self, (Env *)env);
    return 0;
}

static PyObject *event_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                  PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    if (PyVectorcall_NARGS(nargsf) != 1 || names != NULL || st == NULL ||
        !is_env(st, args[0])) {
        return construct_slowly(type, args, nargsf, names);
    }
    Event *self = (Event *)event_alloc(st, (PyTypeObject *)type);
    if (self != NULL) {
        self->env = (Env *)Py_NewRef(args[0]);
        self->flags = F_EXACT;
    }
    return (PyObject *)self;
}

/* ---- triggering ---- */

int event_trigger(Event *self, bool ok, PyObject *value)
{
    self->ok = ok ? OK_TRUE : OK_FALSE;
    Py_XSETREF(self->value, Py_NewRef(value));
    Env *env = event_env(self);
    return env == NULL ? -1 : env_schedule(env, (Event *)self, NORMAL);
}

static int check_pending(Event *self)
{
    if (self->value != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%S has already been triggered", self);
        return -1;
    }
    return 0;
}

/* self.succeed(value), by a subclass's method if it has one. */
int event_succeed(Event *self, PyObject *value)
{
    if (self->flags & F_EXACT) {
        return check_pending(self) < 0 ? -1 : event_trigger(self, true, value);
    }
    State *st = state_of(Py_TYPE(self));
    PyObject *answer = value == Py_None ? PyObject_CallMethodNoArgs((PyObject *)self, st->s_succeed)
                                        : PyObject_CallMethodOneArg((PyObject *)self,
                                                                    st->s_succeed, value);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

static int fail(Event *self, PyObject *exception)
{
    if (check_pending(self) < 0) {
        return -1;
    }
    if (!PyExceptionInstance_Check(exception)) {
        PyErr_Format(PyExc_TypeError, "%S is not an exception.", exception);
        return -1;
    }
    return event_trigger(self, false, exception);
}

int event_fail(Event *self, PyObject *exception)
{
    if (self->flags & F_EXACT) {
        return fail(self, exception);
    }
    State *st = state_of(Py_TYPE(self));
    PyObject *answer = PyObject_CallMethodOneArg((PyObject *)self, st->s_fail, exception);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

PyObject *one_argument(PyObject *const *args, Py_ssize_t count, PyObject *names, const char *name,
                       PyObject *fallback)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (count + named == 1 &&
        (named == 0 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) == 0)) {
        return args[0];
    }
    if (count + named == 0 && fallback != NULL) {
        return fallback;
    }
    PyErr_Format(PyExc_TypeError, "the one argument is '%s'", name);
    return NULL;
}

static PyObject *method_succeed(Event *self, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    PyObject *value = one_argument(args, count, names, "value", Py_None);
    if (value == NULL || check_pending(self) < 0 || event_trigger(self, true, value) < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}

static PyObject *method_fail(Event *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *exception = one_argument(args, count, names, "exception", NULL);
    return exception == NULL || fail(self, exception) < 0 ? NULL : Py_NewRef(self);
}

static PyObject *method_trigger(Event *self, PyObject *other)
{
    State *st = state_of(Py_TYPE(self));
    PyObject *ok = PyObject_GetAttr(other, st->s_ok);
    PyObject *value = ok == NULL ? NULL : PyObject_GetAttr(other, st->s_value);
    int truth = value == NULL ? -1 : PyObject_IsTrue(ok);
    if (truth >= 0) {
        self->ok = truth ? OK_TRUE : OK_FALSE;
        Py_XSETREF(self->value, value == st->pending ? NULL : Py_NewRef(value));
        truth = event_env(self) == NULL ? -1 : env_schedule(self->env, (Event *)self, NORMAL);
    }
    Py_XDECREF(ok);
    Py_XDECREF(value);
    if (truth < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *combine(PyObject *left, PyObject *right, bool all)
{
    State *st = state_of(Py_TYPE(left));
    if (st == NULL) {
        PyErr_Clear();
        Py_RETURN_NOTIMPLEMENTED;
    }
    Env *env = event_env((Event *)left);
    PyObject *both = env == NULL ? NULL : PyList_New(2);
    if (both == NULL) {
        return NULL;
    }
    PyList_SET_ITEM(both, 0, Py_NewRef(left));
    PyList_SET_ITEM(both, 1, Py_NewRef(right));
    PyObject *args[] = {(PyObject *)env, all ? st->all_events : st->any_events, both};
    PyObject *condition = PyObject_Vectorcall((PyObject *)st->Condition, args, 3, NULL);
    Py_DECREF(both);
    return condition;
}

static PyObject *event_and(PyObject *left, PyObject *right)
{
    return combine(left, right, true);
}

static PyObject *event_or(PyObject *left, PyObject *right)
{
    return combine(left, right, false);
}

/* ---- attributes ---- */

static PyObject *get_callbacks(Event *self, void *Py_UNUSED(closure))
{
    return event_callbacks(self);
}

static int set_callbacks(Event *self, PyObject *value, void *Py_UNUSED(closure))
{
    return event_set_callbacks(self, value);
}

static PyObject *missing(Event *self, const char *name)
{
    PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '%s'",
                 Py_TYPE(self)->tp_name, name);
    return NULL;
}

static PyObject *get_ok(Event *self, void *Py_UNUSED(closure))
{
    return self->ok == OK_UNSET ? missing(self, "_ok") : PyBool_FromLong(self->ok == OK_TRUE);
}

static int set_ok(Event *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth >= 0) {
        self->ok = value == NULL ? OK_UNSET : truth ? OK_TRUE : OK_FALSE;
    }
    return truth < 0 ? -1 : 0;
}

static PyObject *get_raw_value(Event *self, void *Py_UNUSED(closure))
{
    State *st = state_of(Py_TYPE(self));
    return Py_NewRef(self->value == NULL ? st->pending : self->value);
}

static int set_raw_value(Event *self, PyObject *value, void *Py_UNUSED(closure))
{
    State *st = state_of(Py_TYPE(self));
    Py_XSETREF(self->value, value == NULL || value == st->pending ? NULL : Py_NewRef(value));
    return 0;
}

static PyObject *get_value(Event *self, void *Py_UNUSED(closure))
{
    if (self->value == NULL) {
        PyErr_Format(PyExc_AttributeError, "Value of %S is not yet available", self);
        return NULL;
    }
    return Py_NewRef(self->value);
}

static PyObject *get_triggered(Event *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->value != NULL);
}

static PyObject *get_processed(Event *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->state == S_DONE);
}

static PyObject *get_raw_defused(Event *self, void *Py_UNUSED(closure))
{
    return self->flags & F_DEFUSED ? Py_NewRef(Py_True) : missing(self, "_defused");
}

static int set_raw_defused(Event *self, PyObject *value, void *Py_UNUSED(closure))
{
    self->flags = (uint8_t)(value == NULL ? self->flags & ~F_DEFUSED : self->flags | F_DEFUSED);
    return 0;
}

static PyObject *get_defused(Event *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->flags & F_DEFUSED);
}

static PyObject *get_env(Event *self, void *Py_UNUSED(closure))
{
    return Py_XNewRef(event_env(self));
}

static int set_env(Event *self, PyObject *value, void *Py_UNUSED(closure))
{
    State *st = state_of(Py_TYPE(self));
    if (value == NULL || as_env(st, value) == NULL) {
        return value == NULL ? (missing(self, "env"), -1) : -1;
    }
    Py_XSETREF(self->env, (Env *)Py_NewRef(value));
    return 0;
}

static PyObject *event_repr(Event *self)
{
    State *st = state_of(Py_TYPE(self));
    PyObject *desc = PyObject_CallMethodNoArgs((PyObject *)self, st->s_desc);
    PyObject *id = desc == NULL ? NULL : PyLong_FromVoidPtr(self);
    PyObject *hex = id == NULL ? NULL : PyNumber_ToBase(id, 16);
    PyObject *text = hex == NULL ? NULL : PyUnicode_FromFormat("<%S object at %S>", desc, hex);
    Py_XDECREF(desc);
    Py_XDECREF(id);
    Py_XDECREF(hex);
    return text;
}

static PyObject *event_desc(PyObject *self, PyObject *Py_UNUSED(none))
{
    PyObject *name = class_name(self);
    PyObject *text = name == NULL ? NULL : PyUnicode_FromFormat("%U()", name);
    Py_XDECREF(name);
    return text;
}

static PyMethodDef event_methods[] = {
    {"succeed", FUNCTION(method_succeed), KEYWORDS,
     "Mark the event successful with a value and schedule it; RuntimeError if triggered already."},
    {"fail", FUNCTION(method_fail), KEYWORDS,
     "Mark the event failed with an exception and schedule it."},
    {"trigger", (PyCFunction)method_trigger, METH_O,
     "Take over state and value of another event and schedule this one."},
    {"_desc", event_desc, METH_NOARGS, "The event in words."},
    {NULL}};

static PyGetSetDef event_getset[] = {
    {"env", (getter)get_env, (setter)set_env, "The Environment the event lives in."},
    {"callbacks", (getter)get_callbacks, (setter)set_callbacks,
     "Whom to call with the event when it is processed; None from then on."},
    {"_ok", (getter)get_ok, (setter)set_ok},
    {"ok", (getter)get_ok, NULL, "Whether it succeeded; AttributeError before it is triggered."},
    {"_value", (getter)get_raw_value, (setter)set_raw_value},
    {"value", (getter)get_value, NULL, "Its value; AttributeError before it is triggered."},
    {"triggered", (getter)get_triggered, NULL, "Whether it has a value and is or was scheduled."},
    {"processed", (getter)get_processed, NULL, "Whether its callbacks have been called."},
    {"_defused", (getter)get_raw_defused, (setter)set_raw_defused},
    {"defused", (getter)get_defused, (setter)set_raw_defused,
     "Whether somebody took care of the failure."},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict},
    {NULL}};

static PyMemberDef event_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(Event, dict), READONLY},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Event, weak), READONLY},
    {NULL}};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, "Something that may happen at some time."},
    {Py_tp_new, event_new},
    {Py_tp_init, event_init},
    GC_SLOTS(event),
    {Py_tp_repr, event_repr},
    {Py_nb_and, event_and},
    {Py_nb_or, event_or},
    {Py_tp_methods, event_methods},
    {Py_tp_getset, event_getset},
    {Py_tp_members, event_members},
    {0, NULL}};

static PyType_Spec event_spec = {"labsim.runtime.des.events.Event", sizeof(Event), 0, TYPE_FLAGS,
                                 event_slots};

/* ---- Timeout ---- */

static int timeout_traverse(Timeout *self, visitproc visit, void *arg)
{
    Py_VISIT(self->delay);
    return event_traverse(&self->base, visit, arg);
}

static int timeout_clear(Timeout *self)
{
    Py_CLEAR(self->delay);
    return event_clear(&self->base);
}

/* No trashcan here: in a chain of events every other one has it. */
static void timeout_dealloc(Timeout *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Env *env = self->base.env;
    if (!(self->base.flags & F_LOOSE)) {
        PyObject_GC_UnTrack(self);
    } else if (env->fresh == (PyObject *)self) {
        env->fresh = NULL;
    }
    self->base.env = NULL;
    if (self->base.weak != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    timeout_clear(self);
    event_recycle(env == NULL ? NULL : env->st, (PyObject *)self, type);
    Py_XDECREF(env);
}

static int check_delay(PyObject *delay)
{
    int negative;
    if (PyFloat_CheckExact(delay)) {
        negative = PyFloat_AS_DOUBLE(delay) < 0;
    } else if (PyLong_CheckExact(delay)) {
        int64_t number;
        negative = as_int64(delay, &number) ? number < 0 : _PyLong_Sign(delay) < 0;
    } else {
        PyObject *zero = PyLong_FromLong(0);
        negative = zero == NULL ? -1 : PyObject_RichCompareBool(delay, zero, Py_LT);
        Py_XDECREF(zero);
    }
    if (negative > 0) {
        PyErr_Format(PyExc_ValueError, "Negative delay %S", delay);
    }
    return negative == 0 ? 0 : -1;
}

static int timeout_start(Timeout *self, PyObject *delay, PyObject *value)
{
    self->base.ok = OK_TRUE;
    Py_XSETREF(self->base.value, Py_NewRef(value));
    Py_XSETREF(self->delay, Py_NewRef(delay));
    return env_schedule_in(self->base.env, (Event *)self, NORMAL, delay);
}

static int timeout_init(Timeout *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "delay", "value", NULL};
    PyObject *env, *delay, *value = Py_None;
    State *st = state_of(Py_TYPE(self));
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:Timeout", names, &env, &delay, &value) ||
        check_delay(delay) < 0 || as_env(st, env) == NULL) {
        return -1;
    }
    event_setup(&self->base, (Env *)env);
    return timeout_start(self, delay, value);
}

/* For what the process that runs makes a timeout may be loose: see event_settle. */
static Timeout *timeout_take(State *st, Env *env, PyTypeObject *type)
{
    bool loose = env->active != NULL && !env->own_schedule && type == st->Timeout;
    Timeout *self = (Timeout *)(loose ? event_take(st, type) : NULL);
    if (self == NULL) {
        self = (Timeout *)event_alloc(st, type);
        if (self == NULL) {
            return NULL;
        }
        if (loose) {
            PyObject_GC_UnTrack(self);
        }
    }
    self->base.env = (Env *)Py_NewRef(env);
    self->base.ok = OK_TRUE;
    self->base.flags = loose ? F_EXACT | F_LOOSE : F_EXACT;
    if (loose) {
        if (env->fresh != NULL) {
            event_settle(env, NULL);
        }
        env->fresh = (PyObject *)self;
    }
    return self;
}

static PyObject *timeout_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                    PyObject *names)
{
    State *st = quick_state(type);
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    if (count < 2 || count > 3 || names != NULL || st == NULL || !is_env(st, args[0])) {
        return construct_slowly(type, args, nargsf, names);
    }
    PyObject *delay = args[1];
    if (check_delay(delay) < 0) {
        return NULL;
    }
    Env *env = (Env *)args[0];
    Timeout *self = timeout_take(st, env, (PyTypeObject *)type);
    if (self == NULL) {
        return NULL;
    }
    self->base.value = Py_NewRef(count > 2 ? args[2] : Py_None);
    self->delay = Py_NewRef(delay);
    int started = env_start_timer(env, &self->base, delay);
    if (started < 0 ||
        (started == 0 && env_schedule_in(env, &self->base, NORMAL, delay) < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *timeout_desc(Timeout *self, PyObject *Py_UNUSED(none))
{
    PyObject *name = class_name((PyObject *)self), *text = NULL;
    PyObject *delay = self->delay == NULL ? Py_None : self->delay;
    if (name != NULL && (self->base.value == NULL || self->base.value == Py_None)) {
        text = PyUnicode_FromFormat("%U(%S)", name, delay);
    } else if (name != NULL) {
        text = PyUnicode_FromFormat("%U(%S, value=%S)", name, delay, self->base.value);
    }
    Py_XDECREF(name);
    return text;
}

static PyMethodDef timeout_methods[] = {
    {"_desc", (PyCFunction)timeout_desc, METH_NOARGS, "The event in words."}, {NULL}};

static PyMemberDef timeout_members[] = {{"_delay", T_OBJECT_EX, offsetof(Timeout, delay), 0},
                                        {NULL}};

static PyType_Slot timeout_slots[] = {
    {Py_tp_doc, "An event that is processed after a delay."},
    {Py_tp_init, timeout_init},
    GC_SLOTS(timeout),
    {Py_tp_methods, timeout_methods},
    {Py_tp_members, timeout_members},
    {0, NULL}};

static PyType_Spec timeout_spec = {"labsim.runtime.des.events.Timeout", sizeof(Timeout), 0,
                                   TYPE_FLAGS, timeout_slots};

int event_exec(PyObject *module, State *st)
{
    st->Event = add_type(module, &event_spec, NULL);
    st->Timeout = st->Event == NULL ? NULL : add_type(module, &timeout_spec, st->Event);
    if (st->Timeout == NULL) {
        return -1;
    }
    st->Event->tp_vectorcall = event_vectorcall;
    st->Timeout->tp_vectorcall = timeout_vectorcall;
    return 0;
}
