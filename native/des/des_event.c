/* The life of an event, its callbacks, and what happens when it is due. */
#include "des_py.h"

/* ---- life ---- */

PyObject *event_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    State *st = state_of(type);
    return st == NULL ? NULL : event_alloc(st, type);
}

int event_traverse(Event *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->env);
    Py_VISIT(self->value);
    Py_VISIT(self->slot[0]);
    Py_VISIT(self->slot[1]);
    Py_VISIT(self->dict);
    return 0;
}

int event_clear(Event *self)
{
    Py_CLEAR(self->value);
    Py_CLEAR(self->slot[0]);
    Py_CLEAR(self->slot[1]);
    memset(self->kind, K_NONE, SLOTS);
    if (self->state == S_OBJECT) {
        self->state = S_DONE;
    }
    Py_CLEAR(self->dict);
    Py_CLEAR(self->env);
    return 0;
}

Env *as_env(State *st, PyObject *object)
{
    if (!is_env(st, object)) {
        PyErr_Format(PyExc_TypeError, "an Environment is needed, not %.200s",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    return (Env *)object;
}

/* As after SimPy's Event.__init__, also when called a second time. */
void event_setup(Event *self, Env *env)
{
    Env *old = self->env;
    self->env = (Env *)Py_NewRef(env);
    if (old != NULL || self->state != S_SLOTS) {
        for (int at = 0; at < SLOTS; at++) {
            self->kind[at] = K_NONE;
            Py_CLEAR(self->slot[at]);
        }
        self->state = S_SLOTS;
        Py_XDECREF(old);
    }
}

Env *event_env(Event *self)
{
    if (self->env == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute 'env'",
                     Py_TYPE(self)->tp_name);
    }
    return self->env;
}

/* ---- callbacks ---- */

/* What SimPy would have in the list. */
static PyObject *bound(Event *self, int kind, PyObject *target)
{
    State *st = self->env->st;
    switch (kind) {
    case K_RESUME:
        return PyObject_GetAttr(target, st->s_resume);
    case K_CHECK:
        return PyObject_GetAttr(target, st->s_check);
    case K_BUILD:
        return PyObject_GetAttr((PyObject *)self, st->s_build_value);
    case K_TRY_PUT:
        return PyObject_GetAttr(target, st->s_trigger_put);
    case K_TRY_GET:
        return PyObject_GetAttr(target, st->s_trigger_get);
    case K_INTERRUPT:
        return PyObject_GetAttr((PyObject *)self, st->s_interrupt);
    case K_STOP:
        return PyObject_GetAttr(st->StopSimulation, st->s_callback);
    default:
        return Py_NewRef(target);
    }
}

/* The callbacks from `start` on as a list. */
static PyObject *as_list(Event *self, const uint8_t *kinds, PyObject *const *targets, int start)
{
    PyObject *list = PyList_New(0);
    for (int at = start; list != NULL && at < SLOTS && kinds[at] != K_NONE; at++) {
        PyObject *callback = bound(self, kinds[at], targets[at]);
        if (callback == NULL || PyList_Append(list, callback) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(callback);
    }
    return list;
}

/* The list, or None: a new reference. From here on the list is what counts. */
PyObject *event_callbacks(Event *self)
{
    if (self->state == S_DONE) {
        Py_RETURN_NONE;
    }
    if (self->state == S_SLOTS) {
        PyObject *list = as_list(self, self->kind, self->slot, 0);
        if (list == NULL) {
            return NULL;
        }
        for (int at = 0; at < SLOTS; at++) {
            self->kind[at] = K_NONE;
            Py_CLEAR(self->slot[at]);
        }
        self->slot[0] = list;
        self->state = S_OBJECT;
    }
    return Py_NewRef(self->slot[0]);
}

int event_set_callbacks(Event *self, PyObject *value)
{
    PyObject *old[SLOTS] = {self->slot[0], self->slot[1]};
    self->slot[0] = value == NULL || value == Py_None ? NULL : Py_NewRef(value);
    self->slot[1] = NULL;
    memset(self->kind, K_NONE, SLOTS);
    self->state = self->slot[0] == NULL ? S_DONE : S_OBJECT;
    Py_XDECREF(old[0]);
    Py_XDECREF(old[1]);
    return 0;
}

/* Append a callback to an event that is not processed. */
int event_add(Event *self, int kind, PyObject *target)
{
    if (self->state == S_SLOTS) {
        for (int at = 0; at < SLOTS; at++) {
            if (self->kind[at] == K_NONE) {
                self->kind[at] = (uint8_t)kind;
                self->slot[at] = Py_XNewRef(target);
                return 0;
            }
        }
    }
    PyObject *list = event_callbacks(self);
    if (list == NULL) {
        return -1;
    }
    PyObject *callback = bound(self, kind, target);
    int result = -1;
    if (callback != NULL && PyList_CheckExact(list)) {
        result = PyList_Append(list, callback);
    } else if (callback != NULL) {
        PyObject *none = PyObject_CallMethodOneArg(list, self->env->st->s_append, callback);
        result = none == NULL ? -1 : 0;
        Py_XDECREF(none);
    }
    Py_XDECREF(callback);
    Py_DECREF(list);
    return result;
}

static void close_gap(Event *self, int at)
{
    PyObject *target = self->slot[at];
    for (; at + 1 < SLOTS; at++) {
        self->slot[at] = self->slot[at + 1];
        self->kind[at] = self->kind[at + 1];
    }
    self->slot[SLOTS - 1] = NULL;
    self->kind[SLOTS - 1] = K_NONE;
    Py_XDECREF(target);
}

int event_remove(Event *self, int kind, PyObject *target)
{
    if (self->state == S_DONE) {
        return 0;
    }
    if (self->state == S_SLOTS) {
        for (int at = 0; at < SLOTS; at++) {
            if (self->kind[at] == kind && self->slot[at] == target) {
                close_gap(self, at);
                return 1;
            }
        }
        return 0;
    }
    if (!PyList_CheckExact(self->slot[0])) {
        return 0;
    }
    PyObject *callback = bound(self, kind, target);
    PyObject *list = Py_NewRef(self->slot[0]);
    int found = callback == NULL ? -1 : 0;
    for (Py_ssize_t at = 0; found == 0 && at < PyList_GET_SIZE(list); at++) {
        found = PyObject_RichCompareBool(PyList_GET_ITEM(list, at), callback, Py_EQ);
        if (found == 1 && PyList_SetSlice(list, at, at + 1, NULL) < 0) {
            found = -1;
        }
    }
    Py_DECREF(list);
    Py_XDECREF(callback);
    return found;
}

/* ---- loose events ---- */

/* A timeout that a process makes and yields at once belongs to the queue and to process.target,
 * and nobody else has it: the environment shows the collector what it refers to, so that it need
 * not be in the collector's lists. Whoever is shown such an event has it tracked first. The process
 * has yielded, or ended: is the timeout that it made last such a one? */
void event_settle(Env *env, PyObject *yielded)
{
    Event *fresh = (Event *)env->fresh;
    env->fresh = NULL;
    if ((PyObject *)fresh != yielded || Py_REFCNT(fresh) != 2 || fresh->queued != 1 ||
        fresh->state != S_SLOTS || fresh->kind[0] != K_NONE || fresh->dict != NULL) {
        event_expose((PyObject *)fresh, false);
    }
}

/* For the environment's traverse. With a reference that is not known it may be anywhere: then
 * what it refers to stays. */
int event_visit_loose(Event *self, visitproc visit, void *arg)
{
    bool waited = self->kind[0] == K_RESUME &&
                  ((Process *)self->slot[0])->target == (PyObject *)self;
    if (Py_REFCNT(self) != 1 + waited || self->queued != 1) {
        return 0;
    }
    return Py_TYPE(self)->tp_traverse((PyObject *)self, visit, arg);
}

/* ---- when it is due ---- */

static int stop(State *st, Event *event)
{
    if (event->ok == OK_TRUE) {
        PyObject *value = event->value == NULL ? st->pending : event->value;
        PyObject *error = PyObject_CallOneArg(st->StopSimulation, value);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
    } else if (event->value != NULL && PyExceptionInstance_Check(event->value)) {
        PyErr_SetObject((PyObject *)Py_TYPE(event->value), event->value);
    } else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    return -1;
}

static int run_slot(Env *env, Event *event, int kind, PyObject *target)
{
    PyObject *answer;
    switch (kind) {
    case K_RESUME:
        return process_resume((Process *)target, (PyObject *)event);
    case K_CHECK:
        return condition_check((Condition *)target, (PyObject *)event);
    case K_BUILD:
        return condition_build((Condition *)event);
    case K_TRY_PUT:
        return resource_try_put((Resource *)target);
    case K_TRY_GET:
        return resource_try_get((Resource *)target);
    case K_INTERRUPT:
        return interruption_run((Interruption *)event);
    case K_STOP:
        return stop(env->st, event);
    default:
        answer = PyObject_CallOneArg(target, (PyObject *)event);
        Py_XDECREF(answer);
        return answer == NULL ? -1 : 0;
    }
}

/* With StopSimulation raised by one callback: what was not called yet is for the next run. */
static void requeue(Env *env, Event *event, PyObject *rest)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    event_set_callbacks(event, rest);
    if (env_schedule(env, (Event *)event, -1) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
}

static int run_slots(Env *env, Event *event)
{
    uint8_t kind[SLOTS] = {event->kind[0], event->kind[1]};
    PyObject *target[SLOTS] = {event->slot[0], event->slot[1]};
    event->slot[0] = event->slot[1] = NULL;
    event->kind[0] = event->kind[1] = K_NONE;
    event->state = S_DONE;
    int result = 0;
    for (int at = 0; result == 0 && at < SLOTS && kind[at] != K_NONE; at++) {
        result = run_slot(env, event, kind[at], target[at]);
        if (result < 0 && PyErr_ExceptionMatches(env->st->StopSimulation)) {
            bool twice = at == 1 && kind[0] == kind[1] && target[0] == target[1];
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            PyObject *rest = as_list(event, kind, target, twice ? 1 : at + 1);
            PyErr_Clear();
            PyErr_Restore(type, value, traceback);
            requeue(env, event, rest);
            Py_XDECREF(rest);
        }
    }
    Py_XDECREF(target[0]);
    Py_XDECREF(target[1]);
    return result;
}

/* callbacks[callbacks.index(callback) + 1 :] */
static PyObject *after(PyObject *callbacks, PyObject *callback)
{
    PyObject *type, *value, *traceback, *rest = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    Py_ssize_t at = PySequence_Index(callbacks, callback);
    if (at >= 0) {
        rest = PySequence_GetSlice(callbacks, at + 1, PY_SSIZE_T_MAX);
    }
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return rest;
}

static int run_list(Env *env, Event *event)
{
    PyObject *list = event->slot[0];
    event->slot[0] = NULL;
    event->state = S_DONE;
    PyObject *iterator = PyList_CheckExact(list) ? NULL : PyObject_GetIter(list);
    int result = iterator == NULL && !PyList_CheckExact(list) ? -1 : 0;
    for (Py_ssize_t at = 0; result == 0; at++) {
        PyObject *callback;
        if (iterator != NULL) {
            callback = PyIter_Next(iterator);
            if (callback == NULL) {
                result = PyErr_Occurred() ? -1 : 0;
                break;
            }
        } else if (at >= PyList_GET_SIZE(list)) {
            break;
        } else {
            callback = Py_NewRef(PyList_GET_ITEM(list, at));
        }
        PyObject *answer = PyObject_CallOneArg(callback, (PyObject *)event);
        if (answer == NULL) {
            result = -1;
            if (PyErr_ExceptionMatches(env->st->StopSimulation)) {
                PyObject *rest = after(list, callback);
                requeue(env, event, rest);
                Py_XDECREF(rest);
            }
        }
        Py_XDECREF(answer);
        Py_DECREF(callback);
    }
    Py_XDECREF(iterator);
    Py_DECREF(list);
    return result;
}

/* A fresh exception like `value`, caused by it: type(value)(*value.args). */
PyObject *copy_failure(PyObject *value)
{
    PyObject *args = PyObject_GetAttrString(value, "args");
    if (args != NULL && !PyTuple_CheckExact(args)) {
        Py_SETREF(args, PySequence_Tuple(args));
    }
    if (args == NULL) {
        return NULL;
    }
    PyObject *copy = PyObject_Call((PyObject *)Py_TYPE(value), args, NULL);
    Py_DECREF(args);
    if (copy != NULL && PyExceptionInstance_Check(copy)) {
        PyException_SetCause(copy, Py_NewRef(value));
    }
    return copy;
}

static int crash(Env *env, Event *event)
{
    PyObject *value = Py_NewRef(event->value == NULL ? env->st->pending : event->value);
    PyObject *error = env->reraise ? Py_NewRef(value) : copy_failure(value);
    if (error != NULL && PyExceptionInstance_Check(error)) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    } else if (error != NULL) {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    Py_XDECREF(error);
    Py_DECREF(value);
    return -1;
}

/* What most events do: they have one process go on, and all is well. */
static int run_process(Env *env, Event *event)
{
    Process *process = (Process *)event->slot[0];
    event->slot[0] = NULL;
    event->kind[0] = K_NONE;
    event->state = S_DONE;
    int result = process_resume(process, (PyObject *)event);
    if (result < 0 && PyErr_ExceptionMatches(env->st->StopSimulation)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyObject *rest = PyList_New(0);
        PyErr_Restore(type, value, traceback);
        requeue(env, event, rest);
        Py_XDECREF(rest);
    }
    Py_DECREF(process);
    return result;
}

int event_run(Env *env, Event *event)
{
    int result = 0;
    if (event->state == S_SLOTS && event->kind[0] == K_RESUME && event->kind[1] == K_NONE) {
        result = run_process(env, event);
    } else if (event->state == S_SLOTS) {
        result = run_slots(env, event);
    } else if (event->state == S_OBJECT) {
        result = run_list(env, event);
    } else {
        PyErr_SetString(PyExc_TypeError, "'NoneType' object is not iterable");
        return -1;
    }
    if (result == 0 && event->ok != OK_TRUE) {
        if (event->ok == OK_UNSET) {
            PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '_ok'",
                         Py_TYPE(event)->tp_name);
            return -1;
        }
        if (!(event->flags & F_DEFUSED)) {
            return crash(env, event);
        }
    }
    return result;
}
