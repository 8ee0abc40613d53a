/* Condition, AllOf, AnyOf and the value they have. */
#include "des_py.h"

/* ---- ConditionValue ---- */

static PyObject *value_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                           PyObject *Py_UNUSED(kwargs))
{
    ConditionValue *self = (ConditionValue *)type->tp_alloc(type, 0);
    if (self != NULL && (self->events = PyList_New(0)) == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int value_traverse(ConditionValue *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->events);
    return 0;
}

static int value_clear(ConditionValue *self)
{
    Py_CLEAR(self->events);
    return 0;
}

static void value_dealloc(ConditionValue *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, value_dealloc)
    value_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyObject *raw_value(PyObject *event)
{
    return PyObject_GetAttrString(event, "_value");
}

static int value_contains(ConditionValue *self, PyObject *event)
{
    return PySequence_Contains(self->events, event);
}

static PyObject *value_getitem(ConditionValue *self, PyObject *event)
{
    int found = value_contains(self, event);
    if (found == 0) {
        PyObject *text = PyObject_Str(event);
        if (text != NULL) {
            PyErr_SetObject(PyExc_KeyError, text);
            Py_DECREF(text);
        }
    }
    return found == 1 ? raw_value(event) : NULL;
}

static PyObject *value_keys(ConditionValue *self, PyObject *Py_UNUSED(none))
{
    return PyObject_GetIter(self->events);
}

static PyObject *value_iter(ConditionValue *self)
{
    return PyObject_GetIter(self->events);
}

/* The values, or (event, value) pairs. */
static PyObject *contents(ConditionValue *self, bool pairs)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t at = 0; list != NULL && at < PyList_GET_SIZE(self->events); at++) {
        PyObject *event = Py_NewRef(PyList_GET_ITEM(self->events, at));
        PyObject *item = raw_value(event);
        if (item != NULL && pairs) {
            Py_SETREF(item, PyTuple_Pack(2, event, item));
        }
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
        Py_DECREF(event);
    }
    return list;
}

static PyObject *iterate(PyObject *list)
{
    PyObject *iterator = list == NULL ? NULL : PyObject_GetIter(list);
    Py_XDECREF(list);
    return iterator;
}

static PyObject *value_values(ConditionValue *self, PyObject *Py_UNUSED(none))
{
    return iterate(contents(self, false));
}

static PyObject *value_items(ConditionValue *self, PyObject *Py_UNUSED(none))
{
    return iterate(contents(self, true));
}

static PyObject *value_todict(ConditionValue *self, PyObject *Py_UNUSED(none))
{
    PyObject *pairs = contents(self, true);
    PyObject *dict = pairs == NULL ? NULL : PyDict_New();
    if (dict != NULL && PyDict_MergeFromSeq2(dict, pairs, 1) < 0) {
        Py_CLEAR(dict);
    }
    Py_XDECREF(pairs);
    return dict;
}

static PyObject *value_compare(ConditionValue *self, PyObject *other, int operation)
{
    State *st = state_of(Py_TYPE(self));
    if (operation != Py_EQ && operation != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (PyObject_TypeCheck(other, st->ConditionValue)) {
        return PyObject_RichCompare(self->events, ((ConditionValue *)other)->events, operation);
    }
    if (PyDict_Check(other)) {
        PyObject *dict = value_todict(self, NULL);
        PyObject *result = dict == NULL ? NULL : PyObject_RichCompare(dict, other, operation);
        Py_XDECREF(dict);
        return result;
    }
    Py_RETURN_NOTIMPLEMENTED;
}

static PyObject *value_repr(ConditionValue *self)
{
    PyObject *dict = PyObject_CallMethod((PyObject *)self, "todict", NULL);
    PyObject *text = dict == NULL ? NULL : PyUnicode_FromFormat("<ConditionValue %S>", dict);
    Py_XDECREF(dict);
    return text;
}

static PyMethodDef value_methods[] = {
    {"keys", (PyCFunction)value_keys, METH_NOARGS, "The events that have happened, in order."},
    {"values", (PyCFunction)value_values, METH_NOARGS, "Their values."},
    {"items", (PyCFunction)value_items, METH_NOARGS, "(event, value) pairs."},
    {"todict", (PyCFunction)value_todict, METH_NOARGS, "The same as a dict."},
    {NULL}};

static PyMemberDef value_members[] = {
    {"events", T_OBJECT_EX, offsetof(ConditionValue, events), 0}, {NULL}};

static PyType_Slot value_slots[] = {
    {Py_tp_doc, "The events of a condition that have happened, and their values."},
    {Py_tp_new, value_new},
    GC_SLOTS(value),
    {Py_tp_repr, value_repr},
    {Py_tp_iter, value_iter},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_richcompare, value_compare},
    {Py_mp_subscript, value_getitem},
    {Py_sq_contains, value_contains},
    {Py_tp_methods, value_methods},
    {Py_tp_members, value_members},
    {0, NULL}};

static PyType_Spec value_spec = {"labsim.runtime.des.events.ConditionValue",
                                 sizeof(ConditionValue), 0, TYPE_FLAGS, value_slots};

static PyObject *new_value(State *st)
{
    return value_new(st->ConditionValue, NULL, NULL);
}

/* ---- Condition ---- */

static bool is_condition(State *st, PyObject *object)
{
    return is_a(object, st->Condition);
}

/* Take _check off the events that have not happened, so that they let go of the condition. */
static int remove_checks(Condition *self)
{
    State *st = self->base.env->st;
    PyObject *events = Py_XNewRef(self->events);
    int result = 0;
    for (Py_ssize_t at = 0; events != NULL && result >= 0 && at < PyTuple_GET_SIZE(events); at++) {
        PyObject *event = PyTuple_GET_ITEM(events, at);
        if (is_event(st, event) && !self->own_check) {
            result = event_remove((Event *)event, K_CHECK, (PyObject *)self);
        } else {
            PyObject *callbacks = PyObject_GetAttr(event, st->s_callbacks), *none = NULL;
            PyObject *check = PyObject_GetAttr((PyObject *)self, st->s_check);
            result = callbacks == NULL || check == NULL ? -1 : PyObject_IsTrue(callbacks);
            if (result > 0 && (result = PySequence_Contains(callbacks, check)) > 0) {
                none = PyObject_CallMethodOneArg(callbacks, st->s_remove, check);
                result = none == NULL ? -1 : 0;
            }
            Py_XDECREF(none);
            Py_XDECREF(check);
            Py_XDECREF(callbacks);
        }
        if (result >= 0 && is_condition(st, event)) {
            if (((Event *)event)->flags & F_EXACT) {
                result = remove_checks((Condition *)event);
            } else {
                PyObject *none = PyObject_CallMethodNoArgs(event, st->s_remove_check);
                result = none == NULL ? -1 : 0;
                Py_XDECREF(none);
            }
        }
    }
    Py_XDECREF(events);
    return result < 0 ? -1 : 0;
}

static int populate(Condition *self, PyObject *value)
{
    State *st = self->base.env->st;
    PyObject *events = Py_XNewRef(self->events), *list = NULL;
    int result = 0;
    for (Py_ssize_t at = 0; events != NULL && result == 0 && at < PyTuple_GET_SIZE(events); at++) {
        PyObject *event = PyTuple_GET_ITEM(events, at);
        if (is_condition(st, event)) {
            if (((Event *)event)->flags & F_EXACT) {
                result = Py_EnterRecursiveCall(" in a condition") || populate((Condition *)event,
                                                                              value) ? -1 : 0;
                Py_LeaveRecursiveCall();
            } else {
                PyObject *none = PyObject_CallMethodOneArg(event, st->s_populate_value, value);
                result = none == NULL ? -1 : 0;
                Py_XDECREF(none);
            }
        } else if (((Event *)event)->state == S_DONE) {
            list = PyObject_GetAttrString(value, "events");
            result = list == NULL ? -1 : PyList_Append(list, event);
            Py_XDECREF(list);
        }
    }
    Py_XDECREF(events);
    return result;
}

int condition_build(Condition *self)
{
    State *st = self->base.env->st;
    int result;
    if (self->base.flags & F_EXACT) {
        result = remove_checks(self);
    } else {
        PyObject *none = PyObject_CallMethodNoArgs((PyObject *)self, st->s_remove_check);
        result = none == NULL ? -1 : 0;
        Py_XDECREF(none);
    }
    if (result < 0 || self->base.ok != OK_TRUE) {
        return result;
    }
    PyObject *value = new_value(st);
    if (value == NULL) {
        return -1;
    }
    Py_XSETREF(self->base.value, Py_NewRef(value));
    if (self->base.flags & F_EXACT) {
        result = populate(self, value);
    } else {
        PyObject *none = PyObject_CallMethodOneArg((PyObject *)self, st->s_populate_value, value);
        result = none == NULL ? -1 : 0;
        Py_XDECREF(none);
    }
    Py_DECREF(value);
    return result;
}

static int evaluate(State *st, Condition *self)
{
    if (self->evaluate == st->any_events) {
        return self->count > 0 || PyTuple_GET_SIZE(self->events) == 0;
    }
    if (self->evaluate == st->all_events) {
        return PyTuple_GET_SIZE(self->events) == self->count;
    }
    PyObject *answer = PyObject_CallFunction(self->evaluate, "On", self->events, self->count);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

int condition_check(Condition *self, PyObject *event)
{
    if (self->base.value != NULL) {
        return 0;
    }
    State *st = self->base.env->st;
    self->count++;
    PyObject *ok = is_event(st, event) && ((Event *)event)->ok != OK_UNSET
                       ? Py_NewRef(((Event *)event)->ok == OK_TRUE ? Py_True : Py_False)
                       : PyObject_GetAttr(event, st->s_ok);
    int truth = ok == NULL ? -1 : PyObject_IsTrue(ok);
    Py_XDECREF(ok);
    if (truth == 0) {
        PyObject *value = NULL;
        int result = PyObject_SetAttr(event, st->s_defused, Py_True);
        if (result == 0 && (value = PyObject_GetAttr(event, st->s_value)) != NULL) {
            result = event_fail(&self->base, value);
            Py_DECREF(value);
            return result;
        }
        return -1;
    }
    truth = truth < 0 ? -1 : evaluate(st, self);
    return truth <= 0 ? truth : event_succeed(&self->base, Py_None);
}

/* Look at each event once: count what has happened, wait for the rest. */
static int attach(State *st, Condition *self)
{
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(self->events); at++) {
        PyObject *event = PyTuple_GET_ITEM(self->events, at), *check = NULL;
        int result;
        bool done = ((Event *)event)->state == S_DONE;
        if (self->own_check) {
            check = PyObject_GetAttr((PyObject *)self, st->s_check);
            PyObject *none = NULL;
            if (check != NULL && done) {
                none = PyObject_CallOneArg(check, event);
            }
            result = check == NULL || (done && none == NULL) ? -1
                     : done ? 0 : event_add((Event *)event, K_CALL, check);
            Py_XDECREF(none);
            Py_XDECREF(check);
        } else {
            result = done ? condition_check(self, event)
                          : event_add((Event *)event, K_CHECK, (PyObject *)self);
        }
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_events(State *st, Condition *self)
{
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(self->events); at++) {
        PyObject *event = PyTuple_GET_ITEM(self->events, at);
        if (!is_event(st, event)) {
            PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute 'env'",
                         Py_TYPE(event)->tp_name);
            return -1;
        }
        Env *env = event_env((Event *)event);
        int other = env == NULL ? -1
                    : env == self->base.env ? 0
                    : PyObject_RichCompareBool((PyObject *)self->base.env, (PyObject *)env, Py_NE);
        if (other > 0) {
            PyErr_SetString(PyExc_ValueError,
                            "It is not allowed to mix events from different environments");
        }
        if (other != 0) {
            return -1;
        }
    }
    return 0;
}

/* After event_setup; `events` is any iterable. */
static int condition_start(State *st, Condition *self, PyObject *evaluation, PyObject *events)
{
    PyObject *tuple = PySequence_Tuple(events);
    if (tuple == NULL) {
        return -1;
    }
    Py_XSETREF(self->evaluate, Py_NewRef(evaluation));
    Py_XSETREF(self->events, tuple);
    self->count = 0;
    if (PyTuple_GET_SIZE(tuple) == 0) {
        PyObject *value = new_value(st);
        int result = value == NULL ? -1 : event_succeed(&self->base, value);
        Py_XDECREF(value);
        return result;
    }
    if (check_events(st, self) < 0 || attach(st, self) < 0) {
        return -1;
    }
    return event_add(&self->base, K_BUILD, NULL);
}

static int condition_traverse(Condition *self, visitproc visit, void *arg)
{
    Py_VISIT(self->evaluate);
    Py_VISIT(self->events);
    return event_traverse(&self->base, visit, arg);
}

static int condition_clear(Condition *self)
{
    Py_CLEAR(self->evaluate);
    Py_CLEAR(self->events);
    return event_clear(&self->base);
}

static EVENT_DEALLOC(condition_dealloc, condition_clear)

static int init_as(Condition *self, PyObject *env, PyObject *evaluation, PyObject *events)
{
    State *st = state_of(Py_TYPE(self));
    if (as_env(st, env) == NULL) {
        return -1;
    }
    event_setup(&self->base, (Env *)env);
    self->own_check = overridden((PyObject *)self, st->s_check, st->d_check);
    return condition_start(st, self, evaluation, events);
}

static int condition_init(Condition *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "evaluate", "events", NULL};
    PyObject *env, *evaluation, *events;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:Condition", names, &env, &evaluation,
                                     &events)) {
        return -1;
    }
    return init_as(self, env, evaluation, events);
}

static int allof_init(Condition *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "events", NULL};
    PyObject *env, *events;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:AllOf", names, &env, &events)) {
        return -1;
    }
    return init_as(self, env, state_of(Py_TYPE(self))->all_events, events);
}

static int anyof_init(Condition *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "events", NULL};
    PyObject *env, *events;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:AnyOf", names, &env, &events)) {
        return -1;
    }
    return init_as(self, env, state_of(Py_TYPE(self))->any_events, events);
}

static PyObject *condition_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                      PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    Py_ssize_t count = (PyTypeObject *)type == st->Condition ? 3 : 2;
    if (PyVectorcall_NARGS(nargsf) != count || names != NULL || st == NULL ||
        !is_env(st, args[0])) {
        return construct_slowly(type, args, nargsf, names);
    }
    Condition *self = (Condition *)event_alloc(st, (PyTypeObject *)type);
    if (self == NULL) {
        return NULL;
    }
    self->base.env = (Env *)Py_NewRef(args[0]);
    self->base.flags = F_EXACT;
    PyObject *evaluation = count == 3 ? args[1]
                           : (PyTypeObject *)type == st->AllOf ? st->all_events : st->any_events;
    if (condition_start(st, self, evaluation, args[count - 1]) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *method_check(Condition *self, PyObject *event)
{
    if (event_env(&self->base) == NULL || condition_check(self, event) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *method_build(Condition *self, PyObject *Py_UNUSED(event))
{
    if (event_env(&self->base) == NULL || condition_build(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *method_populate(Condition *self, PyObject *value)
{
    if (event_env(&self->base) == NULL || populate(self, value) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *method_remove(Condition *self, PyObject *Py_UNUSED(none))
{
    if (event_env(&self->base) == NULL || remove_checks(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *condition_desc(Condition *self, PyObject *Py_UNUSED(none))
{
    State *st = state_of(Py_TYPE(self));
    PyObject *name = class_name((PyObject *)self), *text = NULL;
    PyObject *function = self->evaluate == NULL ? Py_None : self->evaluate;
    PyObject *evaluation = name == NULL ? NULL : PyObject_GetAttr(function, st->s_name);
    if (evaluation != NULL) {
        text = PyUnicode_FromFormat("%U(%S, %S)", name, evaluation,
                                    self->events == NULL ? Py_None : self->events);
    }
    Py_XDECREF(name);
    Py_XDECREF(evaluation);
    return text;
}

static PyObject *all_events(PyObject *Py_UNUSED(type), PyObject *args)
{
    PyObject *events;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "On:all_events", &events, &count)) {
        return NULL;
    }
    Py_ssize_t size = PyObject_Size(events);
    return size < 0 ? NULL : PyBool_FromLong(size == count);
}

static PyObject *any_events(PyObject *Py_UNUSED(type), PyObject *args)
{
    PyObject *events;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "On:any_events", &events, &count)) {
        return NULL;
    }
    Py_ssize_t size = count > 0 ? 0 : PyObject_Size(events);
    return size < 0 ? NULL : PyBool_FromLong(count > 0 || size == 0);
}

static PyMethodDef condition_methods[] = {
    {"_check", (PyCFunction)method_check, METH_O, "One of the events has happened."},
    {"_build_value", (PyCFunction)method_build, METH_O, "The condition is processed."},
    {"_populate_value", (PyCFunction)method_populate, METH_O, "Add the events that happened."},
    {"_remove_check_callbacks", (PyCFunction)method_remove, METH_NOARGS, "Stop waiting."},
    {"_desc", (PyCFunction)condition_desc, METH_NOARGS, "The event in words."},
    {"all_events", all_events, METH_VARARGS | METH_STATIC, "Whether all events have happened."},
    {"any_events", any_events, METH_VARARGS | METH_STATIC, "Whether one event has happened."},
    {NULL}};

static PyMemberDef condition_members[] = {
    {"_evaluate", T_OBJECT_EX, offsetof(Condition, evaluate), 0},
    {"_events", T_OBJECT_EX, offsetof(Condition, events), READONLY},
    {"_count", T_PYSSIZET, offsetof(Condition, count), 0},
    {NULL}};

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, "Happens when evaluate(events, how many have happened) is true, or one fails."},
    {Py_tp_init, condition_init},
    GC_SLOTS(condition),
    {Py_tp_methods, condition_methods},
    {Py_tp_members, condition_members},
    {0, NULL}};

static PyType_Slot allof_slots[] = {{Py_tp_doc, "Happens when all events have."},
                                    GC_SLOTS(condition),
                                    {Py_tp_init, allof_init},
                                    {0, NULL}};
static PyType_Slot anyof_slots[] = {{Py_tp_doc, "Happens when one event has."},
                                    GC_SLOTS(condition),
                                    {Py_tp_init, anyof_init},
                                    {0, NULL}};

static PyType_Spec condition_spec = {"labsim.runtime.des.events.Condition", sizeof(Condition), 0,
                                     TYPE_FLAGS, condition_slots};
static PyType_Spec allof_spec = {"labsim.runtime.des.events.AllOf", sizeof(Condition), 0,
                                 TYPE_FLAGS, allof_slots};
static PyType_Spec anyof_spec = {"labsim.runtime.des.events.AnyOf", sizeof(Condition), 0,
                                 TYPE_FLAGS, anyof_slots};

int condition_exec(PyObject *module, State *st)
{
    st->ConditionValue = add_type(module, &value_spec, NULL);
    st->Condition = add_type(module, &condition_spec, st->Event);
    if (st->ConditionValue == NULL || st->Condition == NULL) {
        return -1;
    }
    st->AllOf = add_type(module, &allof_spec, st->Condition);
    st->AnyOf = add_type(module, &anyof_spec, st->Condition);
    st->d_check = PyObject_GetAttrString((PyObject *)st->Condition, "_check");
    st->all_events = PyObject_GetAttrString((PyObject *)st->Condition, "all_events");
    st->any_events = PyObject_GetAttrString((PyObject *)st->Condition, "any_events");
    if (st->AllOf == NULL || st->AnyOf == NULL || st->any_events == NULL) {
        return -1;
    }
    st->Condition->tp_vectorcall = condition_vectorcall;
    st->AllOf->tp_vectorcall = condition_vectorcall;
    st->AnyOf->tp_vectorcall = condition_vectorcall;
    return 0;
}
