/* An environment's clock, its schedule and its steps. */
#include "des_py.h"

/* ---- numbers of time ---- */

PyObject *time_object(enum des_mode mode, union des_time at)
{
    switch (mode) {
    case DES_INT:
        return PyLong_FromLongLong(at.i);
    case DES_FLOAT:
        return PyFloat_FromDouble(at.d);
    default:
        return Py_NewRef((PyObject *)at.o);
    }
}

/* Takes over no reference: an object is referenced anew. */
Clock clock_of(PyObject *number)
{
    Clock clock = {DES_OBJECT, {.o = number}};
    if (PyLong_CheckExact(number)) {
        int overflow;
        int64_t whole = PyLong_AsLongLongAndOverflow(number, &overflow);
        if (!overflow) {
            clock.mode = DES_INT;
            clock.at.i = whole;
            return clock;
        }
    } else if (PyFloat_CheckExact(number) && !Py_IS_NAN(PyFloat_AS_DOUBLE(number))) {
        clock.mode = DES_FLOAT;
        clock.at.d = PyFloat_AS_DOUBLE(number);
        return clock;
    }
    Py_INCREF(number);
    return clock;
}

void env_set_now(Env *env, Clock now)
{
    PyObject *old = env->now.mode == DES_OBJECT ? env->now.at.o : NULL;
    env->now = now;
    Py_XDECREF(old);
}

PyObject *env_now(Env *env)
{
    return time_object(env->now.mode, env->now.at);
}

/* An entry's time, in the queue's mode. */
PyObject *entry_time(const struct des_queue *queue, const struct des_entry *entry)
{
    if (queue->mode == DES_OBJECT) {
        return Py_NewRef(PyTuple_GET_ITEM((PyObject *)entry->at.o, 0));
    }
    if (queue->mode == DES_FLOAT && entry->key & 1) {
        return PyLong_FromDouble(entry->at.d);
    }
    return time_object(queue->mode, entry->at);
}

/* ---- the schedule ---- */

int env_less(void *a, void *b)
{
    return PyObject_RichCompareBool(a, b, Py_LT);
}

static void *as_order(void *context, const struct des_entry *entry)
{
    Env *env = context;
    PyObject *at = entry_time(&env->queue, entry);
    PyObject *order = at == NULL ? NULL
                                 : Py_BuildValue("NiK", at, des_key_priority(entry->key),
                                                 (unsigned long long)des_key_sequence(entry->key));
    return order;
}

static void discard(void *order)
{
    Py_DECREF((PyObject *)order);
}

static bool is_dead(void *event)
{
    return ((Event *)event)->flags & F_CANCELLED;
}

bool env_is_event(Env *env, PyObject *object)
{
    return is_a(object, env->st->Event);
}

static bool is_dead_here(Env *env, PyObject *object)
{
    return env->dead > 0 && env_is_event(env, object) && is_dead(object);
}

static void drop_entry(Env *env, enum des_mode mode, struct des_entry *entry)
{
    if (mode == DES_OBJECT) {
        Py_DECREF((PyObject *)entry->at.o);
    }
    if (env_is_event(env, entry->event)) {
        ((Event *)entry->event)->queued--;
    }
    Py_DECREF((PyObject *)entry->event);
}

static bool dead_event(void *context, void *object)
{
    return env_is_event(context, object) && is_dead(object);
}

/* Take cancelled events out of the queue for good. */
int env_sweep(Env *env)
{
    struct des_entry *dropped;
    size_t drops;
    int result = des_sweep(&env->queue, dead_event, env, &dropped, &drops);
    if (result == DES_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    env->dead = 0;
    for (size_t at = 0; at < drops; at++) {
        drop_entry(env, env->queue.mode, &dropped[at]);
    }
    free(dropped);
    return result;
}

static int to_object_mode(Env *env)
{
    int result = des_to_object(&env->queue, as_order, discard, env);
    if (result == DES_NO_MEMORY) {
        PyErr_NoMemory();
    }
    return result < 0 ? -1 : 0;
}

/* Take over the reference to `at`, when it is an object. */
static int push(Env *env, PyObject *event, int priority, Clock at)
{
    struct des_queue *queue = &env->queue;
    bool whole = at.mode == DES_INT;
    if (at.mode != queue->mode && queue->mode == DES_INT && at.mode == DES_FLOAT) {
        if (!des_to_float(queue) && to_object_mode(env) < 0) {
            return -1;
        }
    }
    if (queue->mode == DES_FLOAT && at.mode == DES_INT && -DES_EXACT <= at.at.i &&
        at.at.i <= DES_EXACT) {
        at.mode = DES_FLOAT;
        at.at.d = (double)at.at.i;
    }
    if (at.mode != queue->mode && queue->mode != DES_OBJECT && to_object_mode(env) < 0) {
        return -1;
    }
    struct des_entry entry = {at.at, des_key(priority, env->sequence, whole), event};
    if (queue->mode == DES_OBJECT) {
        PyObject *time = time_object(at.mode, at.at);
        entry.at.o = time == NULL ? NULL
                                  : Py_BuildValue("NiK", time, priority,
                                                  (unsigned long long)env->sequence);
        if (entry.at.o == NULL) {
            return -1;
        }
    }
    env->sequence++;
    Py_INCREF(event);
    if (env_is_event(env, event)) {
        ((Event *)event)->queued++;
    }
    int result = des_push(queue, entry);
    if (result == DES_NO_MEMORY) {
        drop_entry(env, queue->mode, &entry);
        PyErr_NoMemory();
    }
    return result < 0 ? -1 : 0;
}

/* Before an event is scheduled: one that was cancelled comes back to life, its past does not. */
static int ready(Env *env, PyObject *event)
{
    if (env->queue.busy) {
        PyErr_SetString(PyExc_RuntimeError, "a comparison of times changes the schedule");
        return -1;
    }
    if (env_is_event(env, event) && ((Event *)event)->flags & F_CANCELLED) {
        int result = ((Event *)event)->queued > 0 ? env_sweep(env) : 0;
        ((Event *)event)->flags &= (uint8_t)~F_CANCELLED;
        return result;
    }
    return 0;
}

static int schedule_now(Env *env, PyObject *event, int priority)
{
    struct des_queue *queue = &env->queue;
    if (ready(env, event) < 0) {
        return -1;
    }
    bool ring = (unsigned)priority < DES_RINGS && queue->mode == env->now.mode;
    if (!ring || queue->mode == DES_OBJECT) {
        Clock at = env->now;
        return push(env, event, priority, at);
    }
    struct des_entry entry = {env->now.at, des_key(priority, env->sequence, false), event};
    if (des_push_now(queue, priority, entry) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    env->sequence++;
    Py_INCREF(event);
    if (env_is_event(env, event)) {
        ((Event *)event)->queued++;
    }
    return 0;
}

/* env.schedule(event) or env.schedule(event, priority), a subclass's if it has one. */
int env_schedule(Env *env, PyObject *event, int priority)
{
    if (!env->own_schedule) {
        return schedule_now(env, event, priority);
    }
    PyObject *answer, *name = env->st->s_schedule;
    if (priority == NORMAL) {
        answer = PyObject_CallMethodOneArg((PyObject *)env, name, event);
    } else {
        PyObject *number = PyLong_FromLong(priority);
        answer = PyObject_CallMethodObjArgs((PyObject *)env, name, event, number, NULL);
        Py_DECREF(number);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

static int schedule_at_sum(Env *env, PyObject *event, int priority, PyObject *delay)
{
    PyObject *now = env_now(env);
    PyObject *sum = now == NULL ? NULL : PyNumber_Add(now, delay);
    Py_XDECREF(now);
    if (sum == NULL) {
        return -1;
    }
    Clock at = clock_of(sum);
    int result = push(env, event, priority, at);
    if (at.mode == DES_OBJECT) {
        Py_DECREF(sum);
    }
    Py_DECREF(sum);
    return result;
}

static int schedule_in(Env *env, PyObject *event, int priority, PyObject *delay)
{
    if (env->now.mode == DES_INT && PyLong_CheckExact(delay)) {
        int overflow;
        Clock at = {DES_INT, {.i = PyLong_AsLongLongAndOverflow(delay, &overflow)}};
        if (!overflow && at.at.i == 0) {
            return schedule_now(env, event, priority);
        }
        if (!overflow && !__builtin_add_overflow(env->now.at.i, at.at.i, &at.at.i)) {
            return ready(env, event) < 0 ? -1 : push(env, event, priority, at);
        }
    } else if (env->now.mode == DES_FLOAT && PyFloat_CheckExact(delay)) {
        Clock at = {DES_FLOAT, {.d = env->now.at.d + PyFloat_AS_DOUBLE(delay)}};
        if (!Py_IS_NAN(at.at.d)) {
            return ready(env, event) < 0 ? -1 : push(env, event, priority, at);
        }
    }
    return ready(env, event) < 0 ? -1 : schedule_at_sum(env, event, priority, delay);
}

int env_schedule_in(Env *env, PyObject *event, int priority, PyObject *delay)
{
    if (!env->own_schedule) {
        return schedule_in(env, event, priority, delay);
    }
    PyObject *number = PyLong_FromLong(priority);
    PyObject *answer = PyObject_CallMethodObjArgs((PyObject *)env, env->st->s_schedule, event,
                                                  number, delay, NULL);
    Py_DECREF(number);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* A priority that is no small number: the order becomes one of objects. */
static int schedule_oddly(Env *env, PyObject *event, PyObject *priority, PyObject *delay)
{
    if (env->queue.mode != DES_OBJECT && to_object_mode(env) < 0) {
        return -1;
    }
    PyObject *now = env_now(env);
    PyObject *sum = now == NULL ? NULL : PyNumber_Add(now, delay);
    Py_XDECREF(now);
    if (sum == NULL) {
        return -1;
    }
    struct des_entry entry = {.event = event};
    entry.at.o = Py_BuildValue("NOK", sum, priority, (unsigned long long)env->sequence);
    if (entry.at.o == NULL) {
        return -1;
    }
    env->sequence++;
    Py_INCREF(event);
    if (env_is_event(env, event)) {
        ((Event *)event)->queued++;
    }
    int result = des_push(&env->queue, entry);
    if (result == DES_NO_MEMORY) {
        drop_entry(env, DES_OBJECT, &entry);
        PyErr_NoMemory();
    }
    return result < 0 ? -1 : 0;
}

PyObject *env_method_schedule(Env *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"event", "priority", "delay", NULL};
    PyObject *event, *priority = NULL, *delay = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:schedule", names, &event, &priority,
                                     &delay)) {
        return NULL;
    }
    int result, overflow = 0;
    long number = NORMAL;
    if (priority != NULL) {
        number = PyLong_CheckExact(priority) ? PyLong_AsLongAndOverflow(priority, &overflow) : 0;
        if (!PyLong_CheckExact(priority) || overflow || number < DES_PRIORITY_LOW ||
            number > DES_PRIORITY_HIGH) {
            overflow = 1;
        }
    }
    PyObject *zero = PyLong_FromLong(0);
    if (overflow) {
        result = ready(self, event) < 0
                     ? -1 : schedule_oddly(self, event, priority, delay == NULL ? zero : delay);
    } else {
        result = schedule_in(self, event, (int)number, delay == NULL ? zero : delay);
    }
    Py_XDECREF(zero);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *env_method_cancel(Env *self, PyObject *object)
{
    if (!env_is_event(self, object)) {
        PyErr_Format(PyExc_TypeError, "an Event is needed, not %.200s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    Event *event = (Event *)object;
    if (event->env != self || event->queued == 0 || is_dead(event)) {
        Py_RETURN_FALSE;
    }
    event->flags |= F_CANCELLED;
    self->dead += event->queued;
    if (self->dead > 64 && self->dead > des_count(&self->queue) / 2 && !self->queue.busy &&
        env_sweep(self) < 0) {
        return NULL;
    }
    Py_RETURN_TRUE;
}

/* ---- the run ---- */

/* Take the next event that is not cancelled: 1, 0 when there is none, -1. */
static int next_event(Env *env, PyObject **event)
{
    for (;;) {
        struct des_entry entry;
        if (env->queue.busy) {
            PyErr_SetString(PyExc_RuntimeError, "a comparison of times changes the schedule");
            return -1;
        }
        int got = des_pop(&env->queue, &entry);
        if (got == 0) {
            return 0;
        }
        if (got > 0 && !is_dead_here(env, entry.event)) {
            Clock now = {env->queue.mode, entry.at};
            if (now.mode == DES_OBJECT) {
                now = clock_of(PyTuple_GET_ITEM((PyObject *)entry.at.o, 0));
                Py_DECREF((PyObject *)entry.at.o);
            } else if (now.mode == DES_FLOAT && entry.key & 1) {
                now.mode = DES_INT;
                now.at.i = (int64_t)entry.at.d;
            }
            env_set_now(env, now);
            *event = entry.event;
            return 1;
        }
        env->dead -= got > 0 ? 1 : 0;
        drop_entry(env, env->queue.mode, &entry);
        if (got < 0) {
            return -1;
        }
    }
}

static int run_foreign(Env *env, PyObject *object)
{
    PyObject *callbacks = PyObject_GetAttr(object, env->st->s_callbacks);
    if (callbacks == NULL || PyObject_SetAttr(object, env->st->s_callbacks, Py_None) < 0) {
        Py_XDECREF(callbacks);
        return -1;
    }
    PyObject *iterator = PyObject_GetIter(callbacks), *callback;
    int result = iterator == NULL ? -1 : 0;
    while (result == 0 && (callback = PyIter_Next(iterator)) != NULL) {
        PyObject *answer = PyObject_CallOneArg(callback, object);
        result = answer == NULL ? -1 : 0;
        Py_XDECREF(answer);
        Py_DECREF(callback);
    }
    Py_XDECREF(iterator);
    Py_DECREF(callbacks);
    if (result < 0 || PyErr_Occurred()) {
        return -1;
    }
    PyObject *ok = PyObject_GetAttr(object, env->st->s_ok);
    int truth = ok == NULL ? -1 : PyObject_IsTrue(ok);
    Py_XDECREF(ok);
    if (truth == 0 && !PyObject_HasAttr(object, env->st->s_defused)) {
        PyObject *value = PyObject_GetAttr(object, env->st->s_value);
        PyObject *error = value == NULL ? NULL : copy_failure(value);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        }
        Py_XDECREF(value);
        Py_XDECREF(error);
        return -1;
    }
    return truth < 0 ? -1 : 0;
}

/* One step: 1, 0 when nothing is scheduled, -1 on an error of an event. */
int env_step(Env *env)
{
    PyObject *event;
    int got = next_event(env, &event);
    if (got <= 0) {
        return got;
    }
    env->steps++;
    int result;
    if (env_is_event(env, event)) {
        ((Event *)event)->queued--;
        result = event_run(env, (Event *)event);
    } else {
        result = run_foreign(env, event);
    }
    Py_DECREF(event);
    return result < 0 ? -1 : 1;
}
