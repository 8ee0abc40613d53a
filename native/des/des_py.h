/* What the parts of labsim._des share: the structs behind the types, the module's state, and the
 * functions that one part calls in another.
 *
 * An event's callbacks are a Python list only once somebody looks at them. Until then up to two of
 * them stand in slots, each a kind and a target: what SimPy appends as bound methods.
 */
#ifndef LABSIM_DES_PY_H
#define LABSIM_DES_PY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "des.h"

enum slot_kind {
    K_NONE,
    K_RESUME,    /* process._resume */
    K_CHECK,     /* condition._check */
    K_BUILD,     /* self._build_value */
    K_TRY_PUT,   /* resource._trigger_put */
    K_TRY_GET,   /* resource._trigger_get */
    K_INTERRUPT, /* self._interrupt */
    K_STOP,      /* StopSimulation.callback */
    K_CALL       /* any callable */
};

enum callbacks_state { S_SLOTS, S_OBJECT, S_DONE };
enum ok_state { OK_UNSET, OK_TRUE, OK_FALSE };

#define SLOTS 2
#define SIZES 32 /* free lists, by size in words */
#define URGENT 0
#define NORMAL 1

enum event_flags {
    F_EXACT = 1,     /* of a built-in type: no method is overridden */
    F_DEFUSED = 2,
    F_CANCELLED = 4, /* what is scheduled of it is dead */
    F_LOOSE = 8,     /* the collector does not know it, see event_settle */
};

typedef struct freed {
    struct freed *next;
} freed;

typedef struct {
    PyTypeObject *Environment, *EventIds, *BoundClass;
    PyTypeObject *environment; /* the subclass of Environment seen last: a short cut */
    PyTypeObject *resource, *store; /* and those of Resource and Store */
    PyTypeObject *Event, *Timeout, *Initialize, *Interruption, *Process;
    PyTypeObject *Condition, *AllOf, *AnyOf, *ConditionValue;
    PyTypeObject *BaseResource, *Resource, *Container, *Store;
    PyTypeObject *Put, *Get, *Request, *Release, *ContainerPut, *ContainerGet, *StorePut, *StoreGet;
    PyObject *pending, *infinity;
    PyObject *all_events, *any_events;
    /* from Python: exceptions.py, core.py, events.py */
    PyObject *Interrupt, *StopSimulation, *EmptySchedule, *describe_frame;
    /* names */
    PyObject *s_schedule, *s_step, *s_callbacks, *s_append, *s_throw, *s_send, *s_args, *s_resume;
    PyObject *s_ok, *s_value, *s_defused, *s_check, *s_build_value, *s_interrupt, *s_succeed;
    PyObject *s_fail, *s_populate_value, *s_remove_check, *s_do_put, *s_do_get, *s_trigger_put;
    PyObject *s_trigger_get, *s_capacity, *s_pop, *s_release, *s_cancel, *s_callback, *s_name;
    PyObject *s_gi_frame, *s_remove, *s_put_queue, *s_get_queue, *s_desc;
    /* what an attribute of a type is when nobody has overridden it */
    PyObject *d_schedule, *d_step, *d_resume, *d_check, *d_trigger_put, *d_trigger_get, *d_capacity;
    PyObject *d_do[6]; /* by enum do_kind */
    freed *free[SIZES];
    int freed[SIZES];
} State;

/* A number of simulated time. */
typedef struct {
    enum des_mode mode;
    union {
        int64_t i;
        double d;
        PyObject *o;
    };
} Clock;

typedef struct {
    PyObject_HEAD
    State *st;
    PyObject *module; /* keeps st */
    struct des_queue queue;
    Clock now;
    uint64_t sequence, steps;
    size_t dead;
    PyObject *active; /* or NULL */
    PyObject *fresh;  /* borrowed: the loose timeout that the active process made last, or NULL */
    PyObject *weak;
    bool own_schedule, own_step; /* overridden in a subclass or on the instance */
    bool reraise;                /* an unhandled failure is raised itself, not a copy of it */
} Env;

typedef struct {
    PyObject_HEAD
    Env *env;        /* NULL before __init__ */
    PyObject *value; /* NULL: pending */
    PyObject *slot[SLOTS];
    PyObject *dict, *weak;
    uint32_t queued;
    uint8_t kind[SLOTS];
    uint8_t state, ok, flags;
} Event;

typedef struct {
    Event base;
    PyObject *delay;
} Timeout;

typedef struct {
    Event base;
    PyObject *generator, *target;
    bool own_resume;
} Process;

typedef struct {
    Event base;
    PyObject *process;
} Interruption;

typedef struct {
    Event base;
    PyObject *evaluate, *events;
    Py_ssize_t count;
    bool own_check;
} Condition;

typedef struct {
    PyObject_HEAD
    PyObject *events;
} ConditionValue;

enum patch { P_DO_PUT = 1, P_DO_GET = 2, P_TRY_PUT = 4, P_TRY_GET = 8, P_RELEASE = 16 };

/* What a resource does to serve a request: one of these, or a method written in Python. */
enum do_kind { DO_RESOURCE_PUT, DO_RESOURCE_GET, DO_CONTAINER_PUT, DO_CONTAINER_GET, DO_STORE_PUT,
               DO_STORE_GET, DO_PYTHON };

typedef struct {
    PyObject_HEAD
    Env *env;
    PyObject *capacity, *put_queue, *get_queue;
    PyObject *held; /* users, items or level */
    PyObject *weak;
    double room; /* the capacity, or NaN when that is no plain number */
    uint8_t do_put, do_get;
    uint8_t patched;       /* methods replaced on the instance, see enum patch */
    bool own_put, own_get; /* _trigger_put, _trigger_get overridden */
    bool own_capacity, own_release;
} Resource;

typedef struct {
    Event base;
    PyObject *resource, *proc;
    PyObject *extra; /* request, item, amount or usage_since */
} Demand;

/* The deallocator of a type of events: let go of everything, keep the memory for the next. */
#define EVENT_DEALLOC(NAME, CLEAR)                                                                 \
    void NAME(Event *self)                                                                         \
    {                                                                                              \
        PyTypeObject *type = Py_TYPE(self);                                                        \
        PyObject_GC_UnTrack(self);                                                                 \
        Py_TRASHCAN_BEGIN(self, NAME)                                                              \
        Env *env = self->env;                                                                      \
        self->env = NULL;                                                                          \
        if (self->weak != NULL) {                                                                  \
            PyObject_ClearWeakRefs((PyObject *)self);                                              \
        }                                                                                          \
        CLEAR((void *)self);                                                                       \
        event_recycle(env == NULL ? NULL : env->st, (PyObject *)self, type);                       \
        Py_XDECREF(env);                                                                           \
        Py_TRASHCAN_END                                                                            \
    }

/* Whether it is of a type; `seen` remembers the subtype that was asked for last. */
static inline bool is_seen(PyObject *object, PyTypeObject *of, PyTypeObject **seen)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == *seen) {
        return true;
    }
    bool result = PyType_IsSubtype(type, of);
    if (result) {
        Py_XSETREF(*seen, (PyTypeObject *)Py_NewRef(type));
    }
    return result;
}

static inline bool is_env(State *st, PyObject *object)
{
    return is_seen(object, st->Environment, &st->environment);
}

/* The state of the module that a built-in type is from. */
static inline State *quick_state(PyObject *type)
{
    return PyModule_GetState(((PyHeapTypeObject *)type)->ht_module);
}

/* An exact int of Python's that fits: true. No error is set either way. */
static inline bool as_int64(PyObject *object, int64_t *number)
{
#if PY_VERSION_HEX < 0x030C0000 && PYLONG_BITS_IN_DIGIT == 30
    Py_ssize_t size = Py_SIZE(object);
    const digit *digits = ((PyLongObject *)object)->ob_digit;
    if (0 <= size && size <= 2) {
        *number = size == 0 ? 0 : (int64_t)digits[0] | (size == 2 ? (int64_t)digits[1] << 30 : 0);
        return true;
    }
#endif
    int overflow;
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow;
}

/* A queue's pointers say in their lowest bit when they are no Event of ours. */
#define FOREIGN ((uintptr_t)1)

static inline void *entry_tag(PyObject *object, bool foreign)
{
    return (void *)((uintptr_t)object | (foreign ? FOREIGN : 0));
}

static inline bool is_foreign(void *tagged)
{
    return (uintptr_t)tagged & FOREIGN;
}

static inline PyObject *untagged(void *tagged)
{
    return (PyObject *)((uintptr_t)tagged & ~FOREIGN);
}

extern struct PyModuleDef des_module;

static inline bool is_a(PyObject *object, PyTypeObject *type)
{
    return Py_IS_TYPE(object, type) || PyType_IsSubtype(Py_TYPE(object), type);
}

/* Whether it is an event of ours, for the common types without a call. */
static inline bool is_event(State *st, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == st->Timeout || type == st->Event || type == st->Process ||
           type == st->Request || type == st->Release || type == st->StorePut ||
           type == st->StoreGet || type == st->AnyOf || PyType_IsSubtype(type, st->Event);
}

#define TYPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC)
#define KEYWORDS (METH_FASTCALL | METH_KEYWORDS)
#define FUNCTION(NAME) (PyCFunction)(void (*)(void))(NAME)

/* The slots that each type must name, even when it has its base's. */
#define GC_SLOTS(OF)                                                                               \
    {Py_tp_dealloc, OF##_dealloc}, {Py_tp_traverse, OF##_traverse}, {Py_tp_clear, OF##_clear}

void event_dealloc(Event *event);
void demand_dealloc(Event *event);
void resource_dealloc(Resource *self);

/* des_module.c */
PyObject *class_name(PyObject *self);
State *state_of(PyTypeObject *type);
PyObject *construct_slowly(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names);
PyObject *event_alloc(State *st, PyTypeObject *type); /* tracked by the collector */
PyObject *event_take(State *st, PyTypeObject *type);
void event_recycle(State *st, PyObject *self, PyTypeObject *type);
bool overridden(PyObject *object, PyObject *name, PyObject *builtin); /* in its type */
PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

/* des_env.c, des_env_type.c */
int env_exec(PyObject *module, State *st);
int env_less(void *a, void *b);
PyObject *clock_object(Clock clock);
PyObject *entry_time(const struct des_queue *queue, const struct des_entry *entry);
Clock clock_of(PyObject *number);
void env_set_now(Env *env, Clock now);
int env_sweep(Env *env);
int env_step(Env *env);
PyObject *env_method_schedule(Env *self, PyObject *args, PyObject *kwargs);
PyObject *env_method_cancel(Env *self, PyObject *object);
int env_schedule(Env *env, Event *event, int priority);
int env_start_timer(Env *env, Event *event, PyObject *delay);
int env_schedule_in(Env *env, Event *event, int priority, PyObject *delay);
PyObject *env_now(Env *env);

/* des_event.c */
int event_exec(PyObject *module, State *st);
Env *event_env(Event *event); /* borrowed; AttributeError before __init__ */
Env *as_env(State *st, PyObject *object);
void event_setup(Event *event, Env *env);
PyObject *event_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int event_traverse(Event *event, visitproc visit, void *arg);
int event_clear(Event *event);
int event_add(Event *event, int kind, PyObject *target);
int event_remove(Event *event, int kind, PyObject *target); /* 1 removed, 0 was not there */
PyObject *event_callbacks(Event *event);
int event_set_callbacks(Event *event, PyObject *value);
int event_run(Env *env, Event *event);
void event_settle(Env *env, PyObject *yielded);
int event_visit_loose(Event *event, visitproc visit, void *arg);

/* Before somebody else gets to see an event: the collector has to know it. */
static inline void event_expose(PyObject *object, bool foreign)
{
    if (!foreign && ((Event *)object)->flags & F_LOOSE) {
        ((Event *)object)->flags &= (uint8_t)~F_LOOSE;
        PyObject_GC_Track(object);
    }
}
int event_trigger(Event *event, bool ok, PyObject *value);
PyObject *one_argument(PyObject *const *args, Py_ssize_t count, PyObject *names, const char *name,
                       PyObject *fallback);
int event_succeed(Event *event, PyObject *value);
int event_fail(Event *event, PyObject *exception);
PyObject *copy_failure(PyObject *value);

/* des_process.c */
int process_exec(PyObject *module, State *st);
int process_resume(Process *process, PyObject *event);
int interruption_run(Interruption *self);

/* des_condition.c */
int condition_exec(PyObject *module, State *st);
int condition_check(Condition *self, PyObject *event);
int condition_build(Condition *self);

/* des_resource.c */
int resource_exec(PyObject *module, State *st);
int resource_try_put(Resource *self);
int resource_try_get(Resource *self);
int resource_setup(Resource *self, PyObject *env, PyObject *capacity);
int resource_positive(PyObject *number); /* 1 when > 0 */
int resource_traverse(Resource *self, visitproc visit, void *arg);
int resource_clear(Resource *self);
int demand_enter(Demand *self, PyObject *resource, bool put);
int demand_cancel(Demand *self, bool put);
int demand_traverse(Demand *self, visitproc visit, void *arg);
int demand_clear(Demand *self);
PyObject *demand_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names,
                            Py_ssize_t arguments, PyTypeObject *of, PyTypeObject **seen,
                            bool put);
int demand_init(Demand *self, PyObject *resource, bool put);
PyObject *list_take(PyObject *list, Py_ssize_t at);
int bind_class(State *st, PyTypeObject *to, const char *name, PyTypeObject *cls);

/* des_stores.c */
int stores_exec(PyObject *module, State *st);
int stores_do(Resource *self, int kind, PyObject *event, bool *proceed);

#endif
