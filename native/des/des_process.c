/* Process, Initialize and Interruption: generators, resumed by the events they wait for. */
#include "des_py.h"

/* ---- resuming ---- */

/* What a failed generator left: its exception, with its traceback. */
static PyObject *take_error(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* The generator raised: StopIteration is its way to return. */
static PySendResult ended(PyObject **result)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = take_error();
    PyObject *args = PyObject_GetAttrString(stop, "args");
    *result = Py_NewRef(Py_None);
    if (args != NULL && PyTuple_Check(args) && PyTuple_GET_SIZE(args) > 0) {
        Py_SETREF(*result, Py_NewRef(PyTuple_GET_ITEM(args, 0)));
    }
    Py_XDECREF(args);
    Py_DECREF(stop);
    return PYGEN_RETURN;
}

static PySendResult send(State *st, PyObject *generator, PyObject *value, PyObject **result)
{
    if (PyGen_CheckExact(generator)) {
        return PyGen_Type.tp_as_async->am_send(generator, value, result);
    }
    *result = PyObject_CallMethodOneArg(generator, st->s_send, value);
    return *result != NULL ? PYGEN_NEXT : ended(result);
}

/* type(*args), for the exact Interrupt, whose __init__ only keeps its args. */
static PyObject *new_interrupt(State *st, PyObject *args)
{
    return ((PyTypeObject *)PyExc_BaseException)->tp_new((PyTypeObject *)st->Interrupt, args, NULL);
}

static PySendResult throw(State *st, PyObject *generator, PyObject *value, PyObject **result)
{
    PyObject *error = NULL;
    if (Py_IS_TYPE(value, (PyTypeObject *)st->Interrupt)) {
        error = new_interrupt(st, ((PyBaseExceptionObject *)value)->args);
        if (error != NULL) {
            PyException_SetCause(error, Py_NewRef(value));
        }
    } else {
        error = copy_failure(value);
    }
    if (error == NULL) {
        return ended(result);
    }
    *result = PyObject_CallMethodOneArg(generator, st->s_throw, error);
    Py_DECREF(error);
    return *result != NULL ? PYGEN_NEXT : ended(result);
}

/* Give the generator the outcome of `event`, which need not be one of our types. */
static PySendResult advance(State *st, Process *self, PyObject *event, PyObject **result)
{
    PyObject *generator = self->generator;
    PySendResult sent = PYGEN_ERROR;
    if (is_event(st, event)) {
        Event *source = (Event *)event;
        PyObject *value = source->value == NULL ? st->pending : source->value;
        Py_INCREF(generator);
        if (source->ok == OK_TRUE) {
            sent = send(st, generator, value, result);
        } else if (source->ok == OK_FALSE) {
            source->flags |= F_DEFUSED;
            Py_INCREF(value);
            sent = throw(st, generator, value, result);
            Py_DECREF(value);
        } else {
            PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '_ok'",
                         Py_TYPE(event)->tp_name);
        }
        Py_DECREF(generator);
        return sent;
    }
    PyObject *ok = PyObject_GetAttr(event, st->s_ok), *value = NULL;
    int truth = ok == NULL ? -1 : PyObject_IsTrue(ok);
    if (truth == 0 && PyObject_SetAttr(event, st->s_defused, Py_True) < 0) {
        truth = -1;
    }
    if (truth >= 0 && (value = PyObject_GetAttr(event, st->s_value)) != NULL) {
        sent = (truth ? send : throw)(st, generator, value, result);
    }
    Py_XDECREF(ok);
    Py_XDECREF(value);
    return sent;
}

/* The generator is through: the process has happened. */
static int finish(Process *self, bool ok, PyObject *value)
{
    self->base.ok = ok ? OK_TRUE : OK_FALSE;
    Py_XSETREF(self->base.value, value);
    return env_schedule(self->base.env, (Event *)self, NORMAL);
}

static int invalid_yield(Process *self, PyObject *yielded)
{
    State *st = self->base.env->st;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *has = PyObject_GetAttr(yielded, st->s_callbacks);
    if (has != NULL) {
        Py_DECREF(has);
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    PyObject *frame = PyObject_GetAttr(self->generator, st->s_gi_frame);
    PyObject *place = frame == NULL ? NULL : PyObject_CallOneArg(st->describe_frame, frame);
    if (place != NULL) {
        PyErr_Format(PyExc_RuntimeError, "\n%SInvalid yield value \"%S\"", place, yielded);
    }
    Py_XDECREF(frame);
    Py_XDECREF(place);
    return -1;
}

/* Wait for what was yielded: 1, 0 when it has happened already, -1. */
static int wait_for(State *st, Process *self, PyObject *target)
{
    if (is_event(st, target) && ((Event *)target)->env != NULL) {
        Event *event = (Event *)target;
        if (event->state == S_DONE) {
            return 0;
        }
        if (!self->own_resume) {
            return event_add(event, K_RESUME, (PyObject *)self) < 0 ? -1 : 1;
        }
    }
    PyObject *callbacks = PyObject_GetAttr(target, st->s_callbacks);
    int result = callbacks == NULL ? -1 : callbacks != Py_None;
    if (result == 1) {
        PyObject *resume = PyObject_GetAttr((PyObject *)self, st->s_resume);
        PyObject *none = NULL;
        if (resume != NULL) {
            none = PyObject_CallMethodOneArg(callbacks, st->s_append, resume);
        }
        result = none == NULL ? -1 : 1;
        Py_XDECREF(resume);
        Py_XDECREF(none);
    }
    Py_XDECREF(callbacks);
    if (result < 0 && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return invalid_yield(self, target);
    }
    return result;
}

static void set_active(Env *env, PyObject *process)
{
    PyObject *old = env->active;
    env->active = process;
    Py_XDECREF(old);
}

int process_resume(Process *self, PyObject *event)
{
    Env *env = event_env(&self->base);
    if (env == NULL || self->generator == NULL) {
        return env == NULL ? -1 : (PyErr_SetString(PyExc_AttributeError, "_generator"), -1);
    }
    State *st = env->st;
    set_active(env, Py_NewRef(self));
    PyObject *current = Py_NewRef(event);
    for (int waiting = 0; waiting == 0;) {
        PyObject *result = NULL;
        PySendResult sent = advance(st, self, current, &result);
        if (env->fresh != NULL) {
            event_settle(env, sent == PYGEN_NEXT && !self->own_resume ? result : NULL);
        }
        if (sent != PYGEN_NEXT) {
            Py_SETREF(current, Py_NewRef(Py_None));
            PyObject *value = sent == PYGEN_RETURN ? result : take_error();
            waiting = finish(self, sent == PYGEN_RETURN, value) < 0 ? -1 : 1;
        } else {
            Py_SETREF(current, result);
            waiting = wait_for(st, self, current);
        }
        if (waiting < 0) {
            Py_DECREF(current);
            return -1;
        }
    }
    Py_XSETREF(self->target, current);
    set_active(env, NULL);
    return 0;
}

/* ---- Process ---- */

static int interruption_start(State *st, Interruption *self, Process *process, PyObject *cause);

static int process_traverse(Process *self, visitproc visit, void *arg)
{
    Py_VISIT(self->generator);
    Py_VISIT(self->target);
    return event_traverse(&self->base, visit, arg);
}

static int process_clear(Process *self)
{
    Py_CLEAR(self->generator);
    Py_CLEAR(self->target);
    return event_clear(&self->base);
}

static EVENT_DEALLOC(process_dealloc, process_clear)

static Event *make_initialize(State *st, Env *env, Process *process)
{
    Event *event = (Event *)event_alloc(st, st->Initialize);
    if (event == NULL) {
        return NULL;
    }
    event_setup(event, env);
    event->flags = F_EXACT;
    event->ok = OK_TRUE;
    event->value = Py_NewRef(Py_None);
    int added;
    if (process->own_resume) {
        PyObject *resume = PyObject_GetAttr((PyObject *)process, st->s_resume);
        added = resume == NULL ? -1 : event_add(event, K_CALL, resume);
        Py_XDECREF(resume);
    } else {
        added = event_add(event, K_RESUME, (PyObject *)process);
    }
    if (added < 0 || env_schedule(env, (Event *)event, URGENT) < 0) {
        Py_DECREF(event);
        return NULL;
    }
    return event;
}

static int process_start(State *st, Process *self, PyObject *generator)
{
    if (!PyGen_CheckExact(generator)) {
        PyObject *has = PyObject_GetAttr(generator, st->s_throw);
        if (has == NULL) {
            if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
                PyErr_Format(PyExc_ValueError, "%S is not a generator.", generator);
            }
            return -1;
        }
        Py_DECREF(has);
    }
    Py_XSETREF(self->generator, Py_NewRef(generator));
    Event *first = make_initialize(st, self->base.env, self);
    Py_XSETREF(self->target, (PyObject *)first);
    return first == NULL ? -1 : 0;
}

static int process_init(Process *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "generator", NULL};
    PyObject *env, *generator;
    State *st = state_of(Py_TYPE(self));
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Process", names, &env, &generator) ||
        as_env(st, env) == NULL) {
        return -1;
    }
    event_setup(&self->base, (Env *)env);
    self->own_resume = overridden((PyObject *)self, st->s_resume, st->d_resume);
    return process_start(st, self, generator);
}

static PyObject *process_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                    PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    if (PyVectorcall_NARGS(nargsf) != 2 || names != NULL || st == NULL ||
        !is_env(st, args[0])) {
        return construct_slowly(type, args, nargsf, names);
    }
    Process *self = (Process *)event_alloc(st, (PyTypeObject *)type);
    if (self == NULL) {
        return NULL;
    }
    self->base.env = (Env *)Py_NewRef(args[0]);
    self->base.flags = F_EXACT;
    if (process_start(st, self, args[1]) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *method_resume(Process *self, PyObject *event)
{
    if (process_resume(self, event) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *method_interrupt(Process *self, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names)
{
    PyObject *cause = one_argument(args, count, names, "cause", Py_None);
    Env *env = cause == NULL ? NULL : event_env(&self->base);
    if (env == NULL) {
        return NULL;
    }
    Interruption *made = (Interruption *)event_alloc(env->st, env->st->Interruption);
    if (made == NULL) {
        return NULL;
    }
    event_setup(&made->base, env);
    int result = interruption_start(env->st, made, self, cause);
    Py_DECREF(made);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *get_name(Process *self, void *Py_UNUSED(closure))
{
    State *st = state_of(Py_TYPE(self));
    return PyObject_GetAttr(self->generator == NULL ? Py_None : self->generator, st->s_name);
}

static PyObject *get_alive(Process *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->base.value == NULL);
}

static PyObject *process_desc(Process *self, PyObject *Py_UNUSED(none))
{
    PyObject *name = class_name((PyObject *)self), *text = NULL;
    PyObject *own = name == NULL ? NULL : PyObject_GetAttrString((PyObject *)self, "name");
    if (own != NULL) {
        text = PyUnicode_FromFormat("%U(%S)", name, own);
    }
    Py_XDECREF(name);
    Py_XDECREF(own);
    return text;
}

static PyMethodDef process_methods[] = {
    {"_resume", (PyCFunction)method_resume, METH_O, "Go on with the outcome of an event."},
    {"interrupt", FUNCTION(method_interrupt), KEYWORDS,
     "Throw an Interrupt with that cause into the process, at once."},
    {"_desc", (PyCFunction)process_desc, METH_NOARGS, "The event in words."},
    {NULL}};

static PyMemberDef process_members[] = {
    {"_generator", T_OBJECT_EX, offsetof(Process, generator), 0}, {NULL}};

static PyObject *get_target(Process *self, void *Py_UNUSED(closure))
{
    PyObject *target = self->target == NULL ? Py_None : self->target;
    State *st = state_of(Py_TYPE(self));
    event_expose(target, st == NULL || !is_event(st, target));
    return Py_NewRef(target);
}

static int set_target(Process *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(self->target, Py_XNewRef(value));
    return 0;
}

static PyGetSetDef process_getset[] = {
    {"_target", (getter)get_target, (setter)set_target},
    {"target", (getter)get_target, NULL, "What the process waits for."},
    {"name", (getter)get_name, NULL, "The name of the generator."},
    {"is_alive", (getter)get_alive, NULL, "True until the generator ends."},
    {NULL}};

static PyType_Slot process_slots[] = {
    {Py_tp_doc, "A generator of events, resumed when they happen; an event itself: its end."},
    {Py_tp_init, process_init},
    GC_SLOTS(process),
    {Py_tp_methods, process_methods},
    {Py_tp_members, process_members},
    {Py_tp_getset, process_getset},
    {0, NULL}};

static PyType_Spec process_spec = {"labsim.runtime.des.events.Process", sizeof(Process), 0,
                                   TYPE_FLAGS, process_slots};

/* ---- Initialize ---- */

static int initialize_init(Event *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "process", NULL};
    PyObject *env, *process;
    State *st = state_of(Py_TYPE(self));
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Initialize", names, &env, &process) ||
        as_env(st, env) == NULL) {
        return -1;
    }
    event_setup(self, (Env *)env);
    PyObject *resume = PyObject_GetAttr(process, st->s_resume);
    if (resume == NULL) {
        return -1;
    }
    self->ok = OK_TRUE;
    Py_XSETREF(self->value, Py_NewRef(Py_None));
    int result = event_add(self, K_CALL, resume);
    Py_DECREF(resume);
    return result < 0 ? -1 : env_schedule(self->env, (Event *)self, URGENT);
}

static PyType_Slot initialize_slots[] = {
    {Py_tp_doc, "Starts a process."}, GC_SLOTS(event), {Py_tp_init, initialize_init}, {0, NULL}};

static PyType_Spec initialize_spec = {"labsim.runtime.des.events.Initialize", sizeof(Event), 0,
                                      TYPE_FLAGS, initialize_slots};

/* ---- Interruption ---- */

static int interruption_traverse(Interruption *self, visitproc visit, void *arg)
{
    Py_VISIT(self->process);
    return event_traverse(&self->base, visit, arg);
}

static int interruption_clear(Interruption *self)
{
    Py_CLEAR(self->process);
    return event_clear(&self->base);
}

static EVENT_DEALLOC(interruption_dealloc, interruption_clear)

/* target.callbacks.remove(process._resume) */
static int stop_waiting(State *st, Process *process)
{
    PyObject *target = process->target == NULL ? Py_None : process->target;
    if (!process->own_resume && is_event(st, target) && ((Event *)target)->env != NULL) {
        int removed = event_remove((Event *)target, K_RESUME, (PyObject *)process);
        if (removed != 0) {
            return removed < 0 ? -1 : 0;
        }
    }
    PyObject *callbacks = PyObject_GetAttr(target, st->s_callbacks), *none = NULL;
    PyObject *resume = PyObject_GetAttr((PyObject *)process, st->s_resume);
    if (callbacks != NULL && resume != NULL) {
        none = PyObject_CallMethodOneArg(callbacks, st->s_remove, resume);
    }
    Py_XDECREF(callbacks);
    Py_XDECREF(resume);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

int interruption_run(Interruption *self)
{
    Process *process = (Process *)self->process;
    State *st = self->base.env->st;
    if (process == NULL || process->base.value != NULL) {
        return 0; /* it ended before the interrupt reached it */
    }
    Py_INCREF(process);
    int result = stop_waiting(st, process);
    if (result == 0 && !process->own_resume) {
        result = process_resume(process, (PyObject *)self);
    } else if (result == 0) {
        PyObject *none = PyObject_CallMethodOneArg((PyObject *)process, st->s_resume,
                                                   (PyObject *)self);
        result = none == NULL ? -1 : 0;
        Py_XDECREF(none);
    }
    Py_DECREF(process);
    return result;
}

static int interruption_start(State *st, Interruption *self, Process *process, PyObject *cause)
{
    PyObject *args = PyTuple_Pack(1, cause);
    PyObject *error = args == NULL ? NULL : new_interrupt(st, args);
    Py_XDECREF(args);
    if (error == NULL) {
        return -1;
    }
    Py_XSETREF(self->base.value, error);
    self->base.ok = OK_FALSE;
    self->base.flags |= F_DEFUSED;
    if (event_add(&self->base, K_INTERRUPT, NULL) < 0) {
        return -1;
    }
    if (process->base.value != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%S has terminated and cannot be interrupted.", process);
        return -1;
    }
    if ((PyObject *)process == self->base.env->active) {
        PyErr_SetString(PyExc_RuntimeError, "A process is not allowed to interrupt itself.");
        return -1;
    }
    Py_XSETREF(self->process, Py_NewRef(process));
    return env_schedule(self->base.env, (Event *)self, URGENT);
}

static int interruption_init(Interruption *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"process", "cause", NULL};
    PyObject *process, *cause;
    State *st = state_of(Py_TYPE(self));
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:Interruption", names, st->Process,
                                     &process, &cause)) {
        return -1;
    }
    Env *env = event_env((Event *)process);
    if (env == NULL) {
        return -1;
    }
    event_setup(&self->base, env);
    return interruption_start(st, self, (Process *)process, cause);
}

static PyObject *method_do_interrupt(Interruption *self, PyObject *Py_UNUSED(event))
{
    if (event_env(&self->base) == NULL || interruption_run(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef interruption_methods[] = {
    {"_interrupt", (PyCFunction)method_do_interrupt, METH_O, "Throw the Interrupt."}, {NULL}};

static PyMemberDef interruption_members[] = {
    {"process", T_OBJECT_EX, offsetof(Interruption, process), 0}, {NULL}};

static PyType_Slot interruption_slots[] = {
    {Py_tp_doc, "Throws an Interrupt into a process."},
    {Py_tp_init, interruption_init},
    GC_SLOTS(interruption),
    {Py_tp_methods, interruption_methods},
    {Py_tp_members, interruption_members},
    {0, NULL}};

static PyType_Spec interruption_spec = {"labsim.runtime.des.events.Interruption",
                                        sizeof(Interruption), 0, TYPE_FLAGS, interruption_slots};

int process_exec(PyObject *module, State *st)
{
    st->Process = add_type(module, &process_spec, st->Event);
    st->Initialize = add_type(module, &initialize_spec, st->Event);
    st->Interruption = add_type(module, &interruption_spec, st->Event);
    if (st->Process == NULL || st->Initialize == NULL || st->Interruption == NULL) {
        return -1;
    }
    st->Process->tp_vectorcall = process_vectorcall;
    st->d_resume = PyObject_GetAttrString((PyObject *)st->Process, "_resume");
    return st->d_resume == NULL ? -1 : 0;
}
