/* An environment's clock, its schedule and its steps. */
#include "des_py.h"

/* ---- numbers of time ---- */

PyObject *clock_object(Clock clock)
{
    switch (clock.mode) {
    case DES_INT:
        return PyLong_FromLongLong(clock.i);
    case DES_FLOAT:
        return PyFloat_FromDouble(clock.d);
    default:
        return Py_NewRef(clock.o);
    }
}

/* An object is referenced anew. */
Clock clock_of(PyObject *number)
{
    if (PyLong_CheckExact(number)) {
        int64_t whole;
        if (as_int64(number, &whole)) {
            return (Clock){DES_INT, {.i = whole}};
        }
    } else if (PyFloat_CheckExact(number) && !Py_IS_NAN(PyFloat_AS_DOUBLE(number))) {
        return (Clock){DES_FLOAT, {.d = PyFloat_AS_DOUBLE(number)}};
    }
    return (Clock){DES_OBJECT, {.o = Py_NewRef(number)}};
}

void env_set_now(Env *env, Clock now)
{
    PyObject *old = env->now.mode == DES_OBJECT ? env->now.o : NULL;
    env->now = now;
    Py_XDECREF(old);
}

PyObject *env_now(Env *env)
{
    return clock_object(env->now);
}

/* An entry's time as a clock; an object is referenced anew. */
static Clock entry_clock(const struct des_queue *queue, const struct des_entry *entry)
{
    if (queue->mode == DES_INT) {
        return (Clock){DES_INT, {.i = des_to_int(entry->at)}};
    }
    if (queue->mode == DES_OBJECT) {
        return clock_of(PyTuple_GET_ITEM((PyObject *)des_to_object(entry->at), 0));
    }
    double number = des_to_float(entry->at);
    return entry->key & 1 ? (Clock){DES_INT, {.i = (int64_t)number}}
                          : (Clock){DES_FLOAT, {.d = number}};
}

PyObject *entry_time(const struct des_queue *queue, const struct des_entry *entry)
{
    if (queue->mode == DES_OBJECT) {
        return Py_NewRef(PyTuple_GET_ITEM((PyObject *)des_to_object(entry->at), 0));
    }
    return clock_object(entry_clock(queue, entry));
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

static bool is_dead(void *tagged)
{
    return !is_foreign(tagged) && ((Event *)tagged)->flags & F_CANCELLED;
}

static void drop_entry(enum des_mode mode, struct des_entry *entry)
{
    if (mode == DES_OBJECT) {
        Py_DECREF((PyObject *)des_to_object(entry->at));
    }
    if (!is_foreign(entry->event)) {
        ((Event *)entry->event)->queued--;
    }
    Py_DECREF(untagged(entry->event));
}

static bool dead_event(void *Py_UNUSED(context), void *tagged)
{
    return is_dead(tagged);
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
        drop_entry(env->queue.mode, &dropped[at]);
    }
    free(dropped);
    return result;
}

static int to_object_mode(Env *env)
{
    int result = des_use_objects(&env->queue, as_order, discard, env);
    if (result == DES_NO_MEMORY) {
        PyErr_NoMemory();
    }
    return result < 0 ? -1 : 0;
}

/* One more entry belongs to the queue. */
static inline void entered(Env *env, void *tagged)
{
    env->sequence++;
    Py_INCREF(untagged(tagged));
    if (!is_foreign(tagged)) {
        ((Event *)tagged)->queued++;
    }
}

/* Put (time, priority, sequence) into a queue in object mode. */
static int push_order(Env *env, void *event, PyObject *time, PyObject *priority)
{
    PyObject *order = Py_BuildValue("OOK", time, priority, (unsigned long long)env->sequence);
    if (order == NULL) {
        return -1;
    }
    struct des_entry entry = {des_of_object(order), 0, event};
    entered(env, event);
    int result = des_push(&env->queue, entry);
    if (result == DES_NO_MEMORY) {
        drop_entry(DES_OBJECT, &entry);
        PyErr_NoMemory();
    }
    return result < 0 ? -1 : 0;
}

static int push_object(Env *env, void *event, PyObject *priority, PyObject *time)
{
    if (env->queue.mode != DES_OBJECT && to_object_mode(env) < 0) {
        return -1;
    }
    return push_order(env, event, time, priority);
}

/* A time that does not suit the queue as it is: change the one or the other. */
static int push_oddly(Env *env, void *event, int priority, Clock at)
{
    struct des_queue *queue = &env->queue;
    bool floats = queue->mode == DES_FLOAT ||
                  (queue->mode == DES_INT && at.mode == DES_FLOAT && des_use_floats(queue));
    bool exact = at.mode == DES_FLOAT ||
                 (at.mode == DES_INT && -DES_EXACT <= at.i && at.i <= DES_EXACT);
    if (floats && exact) {
        bool whole = at.mode == DES_INT;
        struct des_entry entry = {des_of_float(whole ? (double)at.i : at.d),
                                  des_key(priority, env->sequence, whole), event};
        if (des_push(queue, entry) < 0) {
            PyErr_NoMemory();
            return -1;
        }
        entered(env, event);
        return 0;
    }
    PyObject *time = clock_object(at), *number = PyLong_FromLong(priority);
    int result = time == NULL || number == NULL ? -1 : push_object(env, event, number, time);
    Py_XDECREF(time);
    Py_XDECREF(number);
    return result;
}

static inline int push(Env *env, void *event, int priority, Clock at)
{
    if (env->queue.mode != DES_INT || at.mode != DES_INT) {
        return push_oddly(env, event, priority, at);
    }
    uint64_t key = des_key(priority, env->sequence, true);
    if (des_push_number(&env->queue, des_of_int(at.i), key, event) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    entered(env, event);
    return 0;
}

/* A new timer, for the common kinds of numbers: 1 when it is scheduled, 0 when env_schedule_in has
 * to do it, -1. The delay is not negative. */
int env_start_timer(Env *env, Event *event, PyObject *delay)
{
    struct des_queue *queue = &env->queue;
    uint64_t time, key = des_key(NORMAL, env->sequence, queue->mode == DES_INT);
    if (env->own_schedule || queue->busy || queue->mode != env->now.mode) {
        return 0;
    }
    if (queue->mode == DES_INT && PyLong_CheckExact(delay)) {
        int64_t at;
        if (!as_int64(delay, &at) || at == 0 || __builtin_add_overflow(env->now.i, at, &at)) {
            return 0;
        }
        time = des_of_int(at);
    } else if (queue->mode == DES_FLOAT && PyFloat_CheckExact(delay)) {
        double at = env->now.d + PyFloat_AS_DOUBLE(delay);
        if (!(at > env->now.d)) {
            return 0;
        }
        time = des_of_float(at);
    } else {
        return 0;
    }
    if (des_push_number(queue, time, key, event) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    entered(env, event);
    return 1;
}

/* Before an event is scheduled: one that was cancelled comes back to life, its past does not. */
static int ready(Env *env, void *event)
{
    if (env->queue.busy) {
        PyErr_SetString(PyExc_RuntimeError, "a comparison of times changes the schedule");
        return -1;
    }
    if (is_dead(event)) {
        int result = ((Event *)event)->queued > 0 ? env_sweep(env) : 0;
        ((Event *)event)->flags &= (uint8_t)~F_CANCELLED;
        return result;
    }
    return 0;
}

static int schedule_now(Env *env, void *event, int priority)
{
    struct des_queue *queue = &env->queue;
    if (ready(env, event) < 0) {
        return -1;
    }
    enum des_mode mode = queue->mode;
    if ((unsigned)priority >= DES_RINGS || mode != env->now.mode || mode == DES_OBJECT) {
        return push(env, event, priority, env->now);
    }
    bool whole = mode == DES_INT;
    struct des_entry entry = {whole ? des_of_int(env->now.i) : des_of_float(env->now.d),
                              des_key(priority, env->sequence, whole), event};
    if (des_push_now(queue, priority, entry) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    entered(env, event);
    return 0;
}

/* env.schedule(event) or env.schedule(event, priority), a subclass's if it has one. */
int env_schedule(Env *env, Event *event, int priority)
{
    if (!env->own_schedule) {
        return schedule_now(env, event, priority);
    }
    PyObject *answer, *name = env->st->s_schedule;
    if (priority == NORMAL) {
        answer = PyObject_CallMethodOneArg((PyObject *)env, name, (PyObject *)event);
    } else {
        PyObject *number = PyLong_FromLong(priority);
        answer = PyObject_CallMethodObjArgs((PyObject *)env, name, event, number, NULL);
        Py_DECREF(number);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

static int schedule_at_sum(Env *env, void *event, int priority, PyObject *delay)
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
        Py_DECREF(at.o);
    }
    Py_DECREF(sum);
    return result;
}

static int schedule_in(Env *env, void *event, int priority, PyObject *delay)
{
    if (env->now.mode == DES_INT && PyLong_CheckExact(delay)) {
        int64_t whole;
        bool fits = as_int64(delay, &whole);
        if (fits && whole == 0) {
            return schedule_now(env, event, priority);
        }
        if (fits && !__builtin_add_overflow(env->now.i, whole, &whole)) {
            Clock at = {DES_INT, {.i = whole}};
            return ready(env, event) < 0 ? -1 : push(env, event, priority, at);
        }
    } else if (env->now.mode == DES_FLOAT && PyFloat_CheckExact(delay)) {
        Clock at = {DES_FLOAT, {.d = env->now.d + PyFloat_AS_DOUBLE(delay)}};
        if (!Py_IS_NAN(at.d)) {
            return ready(env, event) < 0 ? -1 : push(env, event, priority, at);
        }
    }
    return ready(env, event) < 0 ? -1 : schedule_at_sum(env, event, priority, delay);
}

int env_schedule_in(Env *env, Event *event, int priority, PyObject *delay)
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
static int schedule_oddly(Env *env, void *event, PyObject *priority, PyObject *delay)
{
    PyObject *now = env_now(env);
    PyObject *sum = now == NULL ? NULL : PyNumber_Add(now, delay);
    int result = sum == NULL ? -1 : push_object(env, event, priority, sum);
    Py_XDECREF(now);
    Py_XDECREF(sum);
    return result;
}

PyObject *env_method_schedule(Env *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"event", "priority", "delay", NULL};
    PyObject *object, *priority = NULL, *delay = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:schedule", names, &object, &priority,
                                     &delay)) {
        return NULL;
    }
    void *event = entry_tag(object, !is_event(self->st, object));
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
    if (!is_event(self->st, object)) {
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
static int next_event(Env *env, void **event)
{
    for (;;) {
        struct des_entry entry;
        if (env->queue.busy) {
            PyErr_SetString(PyExc_RuntimeError, "a comparison of times changes the schedule");
            return -1;
        }
        int got = des_pop_quickly(&env->queue, &entry) ? 1 : des_pop(&env->queue, &entry);
        if (got == 0) {
            return 0;
        }
        if (got > 0 && (env->dead == 0 || !is_dead(entry.event))) {
            env_set_now(env, entry_clock(&env->queue, &entry));
            if (env->queue.mode == DES_OBJECT) {
                Py_DECREF((PyObject *)des_to_object(entry.at));
            }
            *event = entry.event;
            return 1;
        }
        env->dead -= got > 0 ? 1 : 0;
        drop_entry(env->queue.mode, &entry);
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

/* Many events at the same time: have the memory of those that follow come nearer. What an event
 * refers to is looked at only when the event itself is there already. */
static inline __attribute__((always_inline)) void prefetch(Env *env)
{
    Event *event = des_ahead(&env->queue, 12);
    if (event == NULL) {
        return;
    }
    __builtin_prefetch(untagged(event));
    __builtin_prefetch((char *)untagged(event) + 64);
    event = des_ahead(&env->queue, 8);
    if (!is_foreign(event) && event->kind[0] == K_RESUME) {
        __builtin_prefetch(event->slot[0]);
        __builtin_prefetch((char *)event->slot[0] + 64);
    }
    event = des_ahead(&env->queue, 4);
    if (!is_foreign(event) && event->kind[0] == K_RESUME) {
        char *generator = (char *)((Process *)event->slot[0])->generator;
        for (int line = 0; line < 6 && generator != NULL; line++) {
            __builtin_prefetch(generator + 64 * line);
        }
    }
}

/* One step: 1, 0 when nothing is scheduled, -1 on an error of an event. */
int env_step(Env *env)
{
    void *event;
    int got = next_event(env, &event);
    if (got <= 0) {
        return got;
    }
    prefetch(env);
    env->steps++;
    int result;
    if (!is_foreign(event)) {
        ((Event *)event)->queued--;
        result = event_run(env, event);
    } else {
        result = run_foreign(env, untagged(event));
    }
    Py_DECREF(untagged(event));
    return result < 0 ? -1 : 1;
}
