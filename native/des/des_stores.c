/* Resource, Container and Store, and the demands on them. */
#include "des_py.h"

/* ---- serving one demand ---- */

/* Whether `count` is less than the capacity. */
static int has_room(Resource *self, Py_ssize_t count)
{
    if (!self->own_capacity && !Py_IS_NAN(self->room)) {
        return (double)count < self->room;
    }
    PyObject *capacity = self->own_capacity
                             ? PyObject_GetAttr((PyObject *)self, self->env->st->s_capacity)
                             : Py_NewRef(self->capacity);
    PyObject *number = capacity == NULL ? NULL : PyLong_FromSsize_t(count);
    int result = number == NULL ? -1 : PyObject_RichCompareBool(number, capacity, Py_LT);
    Py_XDECREF(capacity);
    Py_XDECREF(number);
    return result;
}

static Py_ssize_t held_size(Resource *self)
{
    if (self->held == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the resource was not initialised");
        return -1;
    }
    return PyList_CheckExact(self->held) ? PyList_GET_SIZE(self->held) : PyObject_Size(self->held);
}

static int append(State *st, PyObject *list, PyObject *item)
{
    if (PyList_CheckExact(list)) {
        return PyList_Append(list, item);
    }
    PyObject *none = PyObject_CallMethodOneArg(list, st->s_append, item);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static Demand *as_demand(State *st, PyObject *event)
{
    PyTypeObject *type = Py_TYPE(event);
    if (type == st->StorePut || type == st->StoreGet || type == st->Request ||
        type == st->Release || PyType_IsSubtype(type, st->Put) ||
        PyType_IsSubtype(type, st->Get)) {
        return (Demand *)event;
    }
    PyErr_Format(PyExc_TypeError, "a Put or a Get is needed, not %.200s",
                 Py_TYPE(event)->tp_name);
    return NULL;
}

static PyObject *named(State *st, Demand *demand, PyTypeObject *type, const char *name)
{
    if (is_a((PyObject *)demand, type) && demand->extra != NULL) {
        return Py_NewRef(demand->extra);
    }
    (void)st;
    return PyObject_GetAttrString((PyObject *)demand, name);
}

static int use(Resource *self, Demand *request)
{
    State *st = self->env->st;
    Py_ssize_t count = held_size(self);
    int room = count < 0 ? -1 : has_room(self, count);
    if (room <= 0) {
        return room;
    }
    PyObject *users = Py_NewRef(self->held);
    int result = append(st, users, (PyObject *)request);
    Py_DECREF(users);
    PyObject *now = result < 0 ? NULL : env_now(self->env);
    if (now == NULL) {
        return -1;
    }
    if (is_a((PyObject *)request, st->Request)) {
        Py_XSETREF(request->extra, now);
    } else {
        result = PyObject_SetAttrString((PyObject *)request, "usage_since", now);
        Py_DECREF(now);
    }
    return result < 0 ? -1 : event_succeed(&request->base, Py_None);
}

/* users.remove(request), if it is there. */
static int forget(Resource *self, PyObject *request)
{
    PyObject *users = self->held;
    if (users == NULL || !PyList_CheckExact(users)) {
        PyObject *none = users == NULL ? NULL : PyObject_CallMethod(users, "remove", "O", request);
        if (none == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            return 0;
        }
        Py_XDECREF(none);
        return none == NULL && users != NULL ? -1 : 0;
    }
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(users); at++) {
        PyObject *user = PyList_GET_ITEM(users, at);
        int same = user == request;
        if (!same) {
            Py_INCREF(user);
            same = PyObject_RichCompareBool(user, request, Py_EQ);
            Py_DECREF(user);
        }
        if (same < 0) {
            return -1;
        }
        if (same && at < PyList_GET_SIZE(users)) {
            Py_DECREF(list_take(users, at));
            return 0;
        }
    }
    return 0;
}

static int give_back(Resource *self, Demand *release)
{
    State *st = self->env->st;
    PyObject *request = named(st, release, st->Release, "request");
    int result = request == NULL ? -1 : forget(self, request);
    Py_XDECREF(request);
    return result < 0 ? -1 : event_succeed(&release->base, Py_None);
}

static int put_item(Resource *self, Demand *put)
{
    State *st = self->env->st;
    Py_ssize_t count = held_size(self);
    int room = count < 0 ? -1 : has_room(self, count);
    if (room <= 0) {
        return room;
    }
    PyObject *item = named(st, put, st->StorePut, "item");
    PyObject *items = Py_NewRef(self->held);
    int result = item == NULL ? -1 : append(st, items, item);
    Py_DECREF(items);
    Py_XDECREF(item);
    return result < 0 ? -1 : event_succeed(&put->base, Py_None);
}

static int get_item(Resource *self, Demand *get)
{
    Py_ssize_t count = held_size(self);
    if (count <= 0) {
        return (int)count;
    }
    PyObject *item = PyList_CheckExact(self->held)
                         ? list_take(self->held, 0)
                         : PyObject_CallMethod(self->held, "pop", "i", 0);
    int result = item == NULL ? -1 : event_succeed(&get->base, item);
    Py_XDECREF(item);
    return result;
}

/* The container's level changes if there is enough, respectively enough room. */
static int move(Resource *self, Demand *demand, bool put, bool *proceed)
{
    State *st = self->env->st;
    PyTypeObject *type = put ? st->ContainerPut : st->ContainerGet;
    PyObject *amount = named(st, demand, type, "amount");
    PyObject *level = Py_NewRef(self->held == NULL ? Py_None : self->held);
    PyObject *limit = !put ? Py_NewRef(level) : PyNumber_Subtract(self->capacity, level);
    int enough = amount == NULL || limit == NULL
                     ? -1 : PyObject_RichCompareBool(limit, amount, Py_GE);
    if (enough > 0) {
        PyObject *after = (put ? PyNumber_Add : PyNumber_Subtract)(level, amount);
        enough = after == NULL ? -1 : 1;
        if (after != NULL) {
            Py_XSETREF(self->held, after);
            enough = event_succeed(&demand->base, Py_None) < 0 ? -1 : 1;
        }
    }
    Py_XDECREF(amount);
    Py_DECREF(level);
    Py_XDECREF(limit);
    *proceed = enough > 0;
    return enough < 0 ? -1 : 0;
}

int stores_do(Resource *self, int kind, PyObject *event, bool *proceed)
{
    Demand *demand = as_demand(self->env->st, event);
    *proceed = false;
    if (demand == NULL) {
        return -1;
    }
    switch (kind) {
    case DO_RESOURCE_PUT:
        return use(self, demand);
    case DO_RESOURCE_GET:
        return give_back(self, demand);
    case DO_CONTAINER_PUT:
        return move(self, demand, true, proceed);
    case DO_CONTAINER_GET:
        return move(self, demand, false, proceed);
    case DO_STORE_PUT:
        return put_item(self, demand);
    default:
        return get_item(self, demand);
    }
}

/* The same as Python methods. */
#define DO_METHOD(NAME, KIND)                                                                      \
    static PyObject *NAME(Resource *self, PyObject *event)                                         \
    {                                                                                              \
        bool proceed = false;                                                                      \
        if (self->env == NULL) {                                                                   \
            PyErr_SetString(PyExc_AttributeError, "_env");                                         \
            return NULL;                                                                           \
        }                                                                                          \
        if (stores_do(self, KIND, event, &proceed) < 0) {                                          \
            return NULL;                                                                           \
        }                                                                                          \
        return Py_NewRef(proceed ? Py_True : Py_None);                                             \
    }

DO_METHOD(resource_do_put, DO_RESOURCE_PUT)
DO_METHOD(resource_do_get, DO_RESOURCE_GET)
DO_METHOD(container_do_put, DO_CONTAINER_PUT)
DO_METHOD(container_do_get, DO_CONTAINER_GET)
DO_METHOD(store_do_put, DO_STORE_PUT)
DO_METHOD(store_do_get, DO_STORE_GET)

#define DO_METHODS(KIND)                                                                           \
    {"_do_put", (PyCFunction)KIND##_do_put, METH_O, "Serve a put request if it can be."},          \
    {"_do_get", (PyCFunction)KIND##_do_get, METH_O, "Serve a get request if it can be."}

/* ---- the resources ---- */

static int check_capacity(PyObject *capacity)
{
    int positive = resource_positive(capacity);
    if (positive == 0) {
        PyErr_SetString(PyExc_ValueError, "\"capacity\" must be > 0.");
    }
    return positive > 0 ? 0 : -1;
}

static int held_init(Resource *self, PyObject *env, PyObject *capacity, PyObject *held)
{
    int result = held == NULL ? -1 : resource_setup(self, env, capacity);
    if (result == 0) {
        Py_XSETREF(self->held, Py_NewRef(held));
    }
    return result;
}

static int resource_init(Resource *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "capacity", NULL};
    PyObject *env, *capacity = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Resource", names, &env, &capacity)) {
        return -1;
    }
    capacity = capacity == NULL ? PyLong_FromLong(1) : Py_NewRef(capacity);
    PyObject *users = PyList_New(0);
    int result = check_capacity(capacity) < 0 ? -1 : held_init(self, env, capacity, users);
    Py_XDECREF(users);
    Py_XDECREF(capacity);
    return result;
}

static int store_init(Resource *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "capacity", NULL};
    PyObject *env, *capacity = state_of(Py_TYPE(self))->infinity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Store", names, &env, &capacity)) {
        return -1;
    }
    PyObject *items = PyList_New(0);
    int result = check_capacity(capacity) < 0 ? -1 : held_init(self, env, capacity, items);
    Py_XDECREF(items);
    return result;
}

static int container_init(Resource *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"env", "capacity", "init", NULL};
    PyObject *env, *capacity = state_of(Py_TYPE(self))->infinity, *level = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:Container", names, &env, &capacity,
                                     &level)) {
        return -1;
    }
    PyObject *zero = PyLong_FromLong(0);
    level = level == NULL ? zero : level;
    int wrong = zero == NULL || check_capacity(capacity) < 0
                    ? -1 : PyObject_RichCompareBool(level, zero, Py_LT);
    if (wrong > 0) {
        PyErr_SetString(PyExc_ValueError, "\"init\" must be >= 0.");
    } else if (wrong == 0 && (wrong = PyObject_RichCompareBool(level, capacity, Py_GT)) > 0) {
        PyErr_SetString(PyExc_ValueError, "\"init\" must be <= \"capacity\".");
    }
    int result = wrong == 0 ? held_init(self, env, capacity, level) : -1;
    Py_XDECREF(zero);
    return result;
}

static PyObject *get_count(Resource *self, void *Py_UNUSED(closure))
{
    Py_ssize_t count = held_size(self);
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

static PyObject *get_queue(PyObject *self, void *Py_UNUSED(closure))
{
    return PyObject_GetAttr(self, state_of(Py_TYPE(self))->s_put_queue);
}

static PyMethodDef resource_methods[] = {DO_METHODS(resource), {NULL}};
static PyMethodDef container_methods[] = {DO_METHODS(container), {NULL}};
static PyMethodDef store_methods[] = {DO_METHODS(store), {NULL}};

static PyGetSetDef resource_getset[] = {
    {"count", (getter)get_count, NULL, "How many use the resource."},
    {"queue", get_queue, NULL, "The requests that wait."},
    {NULL}};

static PyMemberDef resource_members[] = {
    {"users", T_OBJECT_EX, offsetof(Resource, held), 0, "The requests that are served."}, {NULL}};
static PyMemberDef container_members[] = {
    {"level", T_OBJECT_EX, offsetof(Resource, held), READONLY, "How much there is."},
    {"_level", T_OBJECT_EX, offsetof(Resource, held), 0},
    {NULL}};
static PyMemberDef store_members[] = {
    {"items", T_OBJECT_EX, offsetof(Resource, held), 0, "What is in the store."}, {NULL}};

static PyType_Slot resource_slots[] = {
    {Py_tp_doc, "Slots that processes request and release."},
    GC_SLOTS(resource),
    {Py_tp_init, resource_init},
    {Py_tp_methods, resource_methods},
    {Py_tp_getset, resource_getset},
    {Py_tp_members, resource_members},
    {0, NULL}};
static PyType_Slot container_slots[] = {{Py_tp_doc, "An amount of something."},
    GC_SLOTS(resource),
                                        {Py_tp_init, container_init},
                                        {Py_tp_methods, container_methods},
                                        {Py_tp_members, container_members},
                                        {0, NULL}};
static PyType_Slot store_slots[] = {{Py_tp_doc, "Objects, first in, first out."},
    GC_SLOTS(resource),
                                    {Py_tp_init, store_init},
                                    {Py_tp_methods, store_methods},
                                    {Py_tp_members, store_members},
                                    {0, NULL}};

#define PLACE "labsim.runtime.des.resources."

static PyType_Spec resource_spec = {"labsim._des.Resource", sizeof(Resource), 0, TYPE_FLAGS,
                                    resource_slots};
static PyType_Spec container_spec = {"labsim._des.Container", sizeof(Resource), 0, TYPE_FLAGS,
                                     container_slots};
static PyType_Spec store_spec = {"labsim._des.Store", sizeof(Resource), 0, TYPE_FLAGS,
                                 store_slots};

/* ---- the demands ---- */

static int request_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"resource", NULL};
    PyObject *resource;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Request", names, &resource)) {
        return -1;
    }
    return demand_init(self, resource, true);
}

static PyObject *request_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                    PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    return demand_vectorcall(type, args, nargsf, names, 1, st == NULL ? NULL : st->Resource,
                             st == NULL ? NULL : &st->resource, true);
}

static PyObject *release_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                    PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    return demand_vectorcall(type, args, nargsf, names, 2, st == NULL ? NULL : st->Resource,
                             st == NULL ? NULL : &st->resource, false);
}

static PyObject *storeput_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                     PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    return demand_vectorcall(type, args, nargsf, names, 2, st == NULL ? NULL : st->Store,
                             st == NULL ? NULL : &st->store, true);
}

static PyObject *storeget_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                     PyObject *names)
{
    State *st = PyType_GetModuleState((PyTypeObject *)type);
    return demand_vectorcall(type, args, nargsf, names, 1, st == NULL ? NULL : st->Store,
                             st == NULL ? NULL : &st->store, false);
}

static PyObject *request_exit(Demand *self, PyObject *const *args, Py_ssize_t count)
{
    State *st = state_of(Py_TYPE(self));
    if (count != 3 || self->resource == NULL) {
        PyErr_SetString(PyExc_TypeError, "__exit__ takes 3 arguments");
        return NULL;
    }
    PyObject *answer = Py_None;
    if (self->base.flags & F_EXACT) {
        answer = demand_cancel(self, true) < 0 ? NULL : Py_NewRef(Py_None);
    } else {
        answer = PyObject_CallMethodNoArgs((PyObject *)self, st->s_cancel);
    }
    if (answer == NULL || args[0] == PyExc_GeneratorExit) {
        return answer; /* a generator that is collected makes no events */
    }
    Py_DECREF(answer);
    if (is_seen(self->resource, st->Resource, &st->resource) &&
        !((Resource *)self->resource)->own_release) {
        PyObject *arguments[] = {self->resource, (PyObject *)self};
        answer = release_vectorcall((PyObject *)st->Release, arguments, 2, NULL);
    } else {
        answer = PyObject_CallMethodOneArg(self->resource, st->s_release, (PyObject *)self);
    }
    if (answer == NULL) {
        return NULL;
    }
    Py_DECREF(answer);
    Py_RETURN_NONE;
}

static int with_extra(Demand *self, PyObject *resource, PyObject *extra, bool put)
{
    Py_XSETREF(self->extra, Py_NewRef(extra));
    return demand_init(self, resource, put);
}

static int release_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"resource", "request", NULL};
    PyObject *resource, *request;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Release", names, &resource, &request)) {
        return -1;
    }
    return with_extra(self, resource, request, false);
}

static int amount_init(Demand *self, PyObject *args, PyObject *kwargs, bool put)
{
    static char *names[] = {"container", "amount", NULL};
    PyObject *container, *amount;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO", names, &container, &amount)) {
        return -1;
    }
    int positive = resource_positive(amount);
    if (positive == 0) {
        PyErr_Format(PyExc_ValueError, "amount(=%S) must be > 0.", amount);
    }
    return positive <= 0 ? -1 : with_extra(self, container, amount, put);
}

static int containerput_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    return amount_init(self, args, kwargs, true);
}

static int containerget_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    return amount_init(self, args, kwargs, false);
}

static int storeput_init(Demand *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"store", "item", NULL};
    PyObject *store, *item;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:StorePut", names, &store, &item)) {
        return -1;
    }
    return with_extra(self, store, item, true);
}

static PyMethodDef request_methods[] = {{"__exit__", FUNCTION(request_exit), METH_FASTCALL},
                                        {NULL}};

static PyMemberDef request_members[] = {
    {"usage_since", T_OBJECT, offsetof(Demand, extra), 0, "When it was served, or None."}, {NULL}};
static PyMemberDef release_members[] = {
    {"request", T_OBJECT_EX, offsetof(Demand, extra), 0, "What is released."}, {NULL}};
static PyMemberDef amount_members[] = {
    {"amount", T_OBJECT_EX, offsetof(Demand, extra), 0, "How much."}, {NULL}};
static PyMemberDef item_members[] = {{"item", T_OBJECT_EX, offsetof(Demand, extra), 0, "What."},
                                     {NULL}};

static PyType_Slot request_slots[] = {{Py_tp_doc, "A request of a slot; a context manager."},
    GC_SLOTS(demand),
                                      {Py_tp_init, request_init},
                                      {Py_tp_methods, request_methods},
                                      {Py_tp_members, request_members},
                                      {0, NULL}};
static PyType_Slot release_slots[] = {{Py_tp_doc, "Gives a slot back."},
    GC_SLOTS(demand),
                                      {Py_tp_init, release_init},
                                      {Py_tp_members, release_members},
                                      {0, NULL}};
static PyType_Slot containerput_slots[] = {{Py_tp_doc, "Puts an amount into a container."},
    GC_SLOTS(demand),
                                           {Py_tp_init, containerput_init},
                                           {Py_tp_members, amount_members},
                                           {0, NULL}};
static PyType_Slot containerget_slots[] = {{Py_tp_doc, "Takes an amount out of a container."},
    GC_SLOTS(demand),
                                           {Py_tp_init, containerget_init},
                                           {Py_tp_members, amount_members},
                                           {0, NULL}};
static PyType_Slot storeput_slots[] = {{Py_tp_doc, "Puts an item into a store."},
    GC_SLOTS(demand),
                                       {Py_tp_init, storeput_init},
                                       {Py_tp_members, item_members},
                                       {0, NULL}};
static PyType_Slot storeget_slots[] = {{Py_tp_doc, "Gets an item out of a store."},
    GC_SLOTS(demand),
    {0, NULL}};

static PyType_Spec demand_specs[] = {
    {PLACE "resource.Request", sizeof(Demand), 0, TYPE_FLAGS, request_slots},
    {PLACE "resource.Release", sizeof(Demand), 0, TYPE_FLAGS, release_slots},
    {PLACE "container.ContainerPut", sizeof(Demand), 0, TYPE_FLAGS, containerput_slots},
    {PLACE "container.ContainerGet", sizeof(Demand), 0, TYPE_FLAGS, containerget_slots},
    {PLACE "store.StorePut", sizeof(Demand), 0, TYPE_FLAGS, storeput_slots},
    {PLACE "store.StoreGet", sizeof(Demand), 0, TYPE_FLAGS, storeget_slots},
};

int stores_exec(PyObject *module, State *st)
{
    PyTypeObject **demands[] = {&st->Request,      &st->Release,  &st->ContainerPut,
                                &st->ContainerGet, &st->StorePut, &st->StoreGet};
    vectorcallfunc calls[] = {request_vectorcall, release_vectorcall,  NULL,
                              NULL,               storeput_vectorcall, storeget_vectorcall};
    for (int at = 0; at < 6; at++) {
        *demands[at] = add_type(module, &demand_specs[at], at % 2 == 0 ? st->Put : st->Get);
        if (*demands[at] == NULL) {
            return -1;
        }
        (*demands[at])->tp_vectorcall = calls[at];
    }
    PyTypeObject **resources[] = {&st->Resource, &st->Container, &st->Store};
    PyType_Spec *specs[] = {&resource_spec, &container_spec, &store_spec};
    for (int at = 0; at < 3; at++) {
        PyTypeObject *type = *resources[at] = add_type(module, specs[at], st->BaseResource);
        if (type == NULL) {
            return -1;
        }
        st->d_do[2 * at] = PyObject_GetAttr((PyObject *)type, st->s_do_put);
        st->d_do[2 * at + 1] = PyObject_GetAttr((PyObject *)type, st->s_do_get);
        const char *put = at == 0 ? "request" : "put", *get = at == 0 ? "release" : "get";
        if (bind_class(st, type, put, *demands[2 * at]) < 0 ||
            bind_class(st, type, get, *demands[2 * at + 1]) < 0) {
            return -1;
        }
    }
    return 0;
}
