/* Environment as Python sees it: the run, its ends, attributes. */
#include "des_py.h"

/* ---- the run ---- */

static PyObject *method_step(Env *self, PyObject *Py_UNUSED(none))
{
    int result = env_step(self);
    if (result == 0) {
        PyErr_SetNone(self->st->EmptySchedule);
    }
    if (result <= 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Step until that raises; EmptySchedule at the end. */
static void drain(Env *self)
{
    uint64_t seen = 0;
    for (;;) {
        int result;
        if (self->own_step) {
            PyObject *none = PyObject_CallMethodNoArgs((PyObject *)self, self->st->s_step);
            result = none == NULL ? -1 : 1;
            Py_XDECREF(none);
        } else {
            result = env_step(self);
        }
        if (result > 0 && (++seen & 1023) == 0 && PyErr_CheckSignals() < 0) {
            return;
        }
        if (result == 0) {
            PyErr_SetNone(self->st->EmptySchedule);
        }
        if (result <= 0) {
            return;
        }
    }
}

static PyObject *method_drain(Env *self, PyObject *Py_UNUSED(none))
{
    drain(self);
    if (PyErr_ExceptionMatches(self->st->EmptySchedule)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return NULL;
}

/* An event that happens at that time, ahead of all timers of that time. */
static Event *moment(Env *self, PyObject *until)
{
    PyObject *at = PyLong_Check(until) ? Py_NewRef(until) : PyNumber_Float(until);
    PyObject *now = at == NULL ? NULL : PyObject_GetAttrString((PyObject *)self, "now");
    Event *event = NULL;
    int past = now == NULL ? -1 : PyObject_RichCompareBool(at, now, Py_LE);
    if (past > 0) {
        PyErr_Format(PyExc_ValueError,
                     "until (%S) must be greater than the current simulation time", at);
    } else if (past == 0) {
        PyObject *delay = PyNumber_Subtract(at, now);
        event = delay == NULL ? NULL : (Event *)event_alloc(self->st, self->st->Event);
        if (event != NULL) {
            event_setup(event, self);
            event->flags = F_EXACT;
            event->ok = OK_TRUE;
            event->value = Py_NewRef(Py_None);
            if (env_schedule_in(self, event, URGENT, delay) < 0) {
                Py_CLEAR(event);
            }
        }
        Py_XDECREF(delay);
    }
    Py_XDECREF(at);
    Py_XDECREF(now);
    return event;
}

/* What the run returns, or NULL: StopSimulation and EmptySchedule are its ends. */
static PyObject *outcome(Env *self, Event *until)
{
    State *st = self->st;
    if (PyErr_ExceptionMatches(st->StopSimulation)) {
        PyObject *type, *value, *traceback, *result = NULL;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        PyObject *args = PyObject_GetAttr(value, st->s_args);
        if (args != NULL) {
            result = PySequence_GetItem(args, 0);
        }
        Py_XDECREF(args);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return result;
    }
    if (!PyErr_ExceptionMatches(st->EmptySchedule)) {
        return NULL;
    }
    PyErr_Clear();
    if (until == NULL) {
        Py_RETURN_NONE;
    }
    if (until->value != NULL) {
        PyErr_SetNone(PyExc_AssertionError);
    } else {
        PyErr_Format(PyExc_RuntimeError,
                     "No scheduled events left but \"until\" event was not triggered: %S", until);
    }
    return NULL;
}

static PyObject *method_run(Env *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"until", NULL};
    PyObject *until = Py_None;
    Event *event = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:run", names, &until)) {
        return NULL;
    }
    if (until != Py_None) {
        if (is_event(self->st, until)) {
            event = (Event *)Py_NewRef(until);
            if (event->state == S_DONE) {
                PyObject *value = PyObject_GetAttrString(until, "value");
                Py_DECREF(event);
                return value;
            }
        } else if ((event = moment(self, until)) == NULL) {
            return NULL;
        }
        if (event_env(event) == NULL || event_add(event, K_STOP, NULL) < 0) {
            Py_DECREF(event);
            return NULL;
        }
    }
    drain(self);
    PyObject *result = outcome(self, event);
    Py_XDECREF(event);
    return result;
}

/* ---- life ---- */

static PyObject *env_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    State *st = state_of(type);
    if (st == NULL || st->describe_frame == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "import labsim.runtime.des first");
        return NULL;
    }
    Env *self = (Env *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->st = st;
        self->module = Py_NewRef(PyType_GetModuleByDef(type, &des_module));
        des_init(&self->queue, env_less);
        self->own_schedule = overridden((PyObject *)self, st->s_schedule, st->d_schedule);
        self->own_step = overridden((PyObject *)self, st->s_step, st->d_step);
    }
    return (PyObject *)self;
}

static int env_init(Env *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"initial_time", NULL};
    PyObject *initial = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Environment", names, &initial)) {
        return -1;
    }
    if (initial != NULL) {
        env_set_now(self, clock_of(initial));
    }
    return 0;
}

static int env_traverse(Env *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    Py_VISIT(self->active);
    if (self->now.mode == DES_OBJECT) {
        Py_VISIT(self->now.o);
    }
    struct des_entry entry;
    for (struct des_place place = {0, 0}; des_each(&self->queue, &place, &entry);) {
        Py_VISIT(untagged(entry.event));
        if (!is_foreign(entry.event) && ((Event *)entry.event)->flags & F_LOOSE) {
            int result = event_visit_loose(entry.event, visit, arg);
            if (result != 0) {
                return result;
            }
        }
        if (self->queue.mode == DES_OBJECT) {
            Py_VISIT((PyObject *)des_to_object(entry.at));
        }
    }
    return 0;
}

static int env_clear(Env *self)
{
    Clock zero = {DES_INT, {.i = 0}};
    struct des_queue queue = self->queue;
    des_init(&self->queue, env_less);
    self->dead = 0;
    struct des_entry entry;
    for (struct des_place place = {0, 0}; des_each(&queue, &place, &entry);) {
        if (!is_foreign(entry.event)) {
            ((Event *)entry.event)->queued--;
        }
        if (queue.mode == DES_OBJECT) {
            Py_DECREF((PyObject *)des_to_object(entry.at));
        }
        Py_DECREF(untagged(entry.event));
    }
    des_free(&queue);
    env_set_now(self, zero);
    Py_CLEAR(self->active);
    return 0;
}

static void env_dealloc(Env *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weak != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    env_clear(self);
    des_free(&self->queue);
    PyObject *module = self->module;
    type->tp_free(self);
    Py_DECREF(type);
    Py_XDECREF(module);
}

/* As the generic one, but notices when schedule or step is replaced on the instance. */
static int env_setattro(Env *self, PyObject *name, PyObject *value)
{
    if (PyObject_GenericSetAttr((PyObject *)self, name, value) < 0) {
        return -1;
    }
    State *st = self->st;
    if (PyUnicode_Compare(name, st->s_schedule) == 0) {
        self->own_schedule = value != NULL ||
                             overridden((PyObject *)self, st->s_schedule, st->d_schedule);
    } else if (PyUnicode_Compare(name, st->s_step) == 0) {
        self->own_step = value != NULL ||
                         overridden((PyObject *)self, st->s_step, st->d_step);
    }
    return 0;
}

/* ---- attributes ---- */

static PyObject *method_peek(Env *self, PyObject *Py_UNUSED(none))
{
    struct des_entry entry;
    while (des_top(&self->queue, &entry)) {
        if (self->dead == 0 || is_foreign(entry.event) ||
            !(((Event *)entry.event)->flags & F_CANCELLED)) {
            return entry_time(&self->queue, &entry);
        }
        if (env_sweep(self) < 0) {
            return NULL;
        }
    }
    return Py_NewRef(self->st->infinity);
}

static PyObject *get_now(Env *self, void *Py_UNUSED(closure))
{
    return env_now(self);
}

static int set_now(Env *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_now");
        return -1;
    }
    env_set_now(self, clock_of(value));
    return 0;
}

static PyObject *get_active(Env *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->active == NULL ? Py_None : self->active);
}

static int set_active(Env *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(self->active, value == NULL || value == Py_None ? NULL : Py_NewRef(value));
    return 0;
}

/* The schedule, in order: a list of (time, priority, sequence, event). */
static PyObject *get_queue(Env *self, void *Py_UNUSED(closure))
{
    PyObject *list = PyList_New(0);
    struct des_entry entry;
    struct des_place place = {0, 0};
    while (list != NULL && des_each(&self->queue, &place, &entry)) {
        PyObject *row = NULL, *time;
        if (!is_foreign(entry.event) && ((Event *)entry.event)->flags & F_CANCELLED) {
            continue;
        }
        event_expose(untagged(entry.event), is_foreign(entry.event));
        if (self->queue.mode == DES_OBJECT) {
            PyObject *last = PyTuple_Pack(1, untagged(entry.event));
            row = last == NULL ? NULL : PySequence_Concat(des_to_object(entry.at), last);
            Py_XDECREF(last);
        } else if ((time = entry_time(&self->queue, &entry)) != NULL) {
            row = Py_BuildValue("NiKO", time, des_key_priority(entry.key),
                                (unsigned long long)des_key_sequence(entry.key),
                                untagged(entry.event));
        }
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    if (list != NULL && PyList_Sort(list) < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* ---- env._eid ---- */

typedef struct {
    PyObject_HEAD
    Env *env;
} Ids;

static PyObject *get_ids(Env *self, void *Py_UNUSED(closure))
{
    Ids *ids = PyObject_GC_New(Ids, self->st->EventIds);
    if (ids != NULL) {
        ids->env = (Env *)Py_NewRef(self);
        PyObject_GC_Track(ids);
    }
    return (PyObject *)ids;
}

static int ids_traverse(Ids *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->env);
    return 0;
}

static int ids_clear(Ids *self)
{
    Py_CLEAR(self->env);
    return 0;
}

static void ids_dealloc(Ids *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    ids_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *ids_next(Ids *self)
{
    return PyLong_FromUnsignedLongLong(self->env->sequence++);
}

static PyObject *ids_repr(Ids *self)
{
    return PyUnicode_FromFormat("count(%llu)", (unsigned long long)self->env->sequence);
}

static PyType_Slot ids_slots[] = {
    {Py_tp_doc, "The counter of scheduled events of an environment."},
    {Py_tp_dealloc, ids_dealloc},
    {Py_tp_traverse, ids_traverse},
    {Py_tp_clear, ids_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, ids_next},
    {Py_tp_repr, ids_repr},
    {0, NULL}};

static PyType_Spec ids_spec = {
    "labsim._des.EventIds", sizeof(Ids), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, ids_slots};

/* ---- the type ---- */

static PyMethodDef env_methods[] = {
    {"schedule", FUNCTION(env_method_schedule), METH_VARARGS | METH_KEYWORDS,
     "Schedule an event with a priority and a delay."},
    {"cancel", (PyCFunction)env_method_cancel, METH_O,
     "Take an event out of the schedule: it never happens, nobody is called. False when it was "
     "not scheduled. Not in SimPy."},
    {"peek", (PyCFunction)method_peek, METH_NOARGS, "The time of the next event, or Infinity."},
    {"step", (PyCFunction)method_step, METH_NOARGS, "Process the next event, or EmptySchedule."},
    {"run", FUNCTION(method_run), METH_VARARGS | METH_KEYWORDS,
     "Process events until a time, until an event has happened, or until none is left."},
    {"_drain", (PyCFunction)method_drain, METH_NOARGS,
     "Process events until none is left or one raises, StopSimulation too."},
    {NULL}};

static PyGetSetDef env_getset[] = {
    {"now", (getter)get_now, NULL, "The current simulated time."},
    {"_now", (getter)get_now, (setter)set_now},
    {"active_process", (getter)get_active, NULL, "The process that runs, or None."},
    {"_active_proc", (getter)get_active, (setter)set_active},
    {"_queue", (getter)get_queue, NULL, "A copy of the schedule, in order."},
    {"_eid", (getter)get_ids, NULL, "The counter of scheduled events."},
    {NULL}};

static PyMemberDef env_members[] = {
    {"_reraise", T_BOOL, offsetof(Env, reraise), 0},
    {"_steps", T_ULONGLONG, offsetof(Env, steps), 0},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Env, weak), READONLY},
    {NULL}};

static PyType_Slot env_slots[] = {
    {Py_tp_doc, "Simulated time, passing from event to event."},
    {Py_tp_new, env_new},
    {Py_tp_init, env_init},
    {Py_tp_dealloc, env_dealloc},
    {Py_tp_traverse, env_traverse},
    {Py_tp_clear, env_clear},
    {Py_tp_setattro, env_setattro},
    {Py_tp_methods, env_methods},
    {Py_tp_getset, env_getset},
    {Py_tp_members, env_members},
    {0, NULL}};

static PyType_Spec env_spec = {"labsim._des.Environment", sizeof(Env), 0, TYPE_FLAGS,
                               env_slots};

int env_exec(PyObject *module, State *st)
{
    st->EventIds = add_type(module, &ids_spec, NULL);
    st->Environment = add_type(module, &env_spec, NULL);
    if (st->EventIds == NULL || st->Environment == NULL) {
        return -1;
    }
    st->d_schedule = PyObject_GetAttr((PyObject *)st->Environment, st->s_schedule);
    st->d_step = PyObject_GetAttr((PyObject *)st->Environment, st->s_step);
    return st->d_schedule == NULL || st->d_step == NULL ? -1 : 0;
}
