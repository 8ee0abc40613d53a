/* Whole messages: header, body and the buffers of a format, from and to labsim.wire's Message.
 *
 * A buffer's plan (labsim.pure.messages.Plan) says what it holds. As with structs, C does what is
 * usual and leaves everything else to the twin, the Python functions that Messages was made with.
 */
#include "wire_layout.h"

#include <string.h>

#define REQUEST_TYPE 4711u /* PTL_RPC_MSG_REQUEST, _ERR, _REPLY */
#define ERROR_TYPE 4712u
#define REPLY_TYPE 4713u
#define VERSION_MASK 0xffff0000u
#define VERSION 3u
#define BODY_TYPE 8 /* offsets in the body */
#define BODY_VERSION 12
#define BODY_OPCODE 16
#define BODY_STATUS 20

enum slot { BODY, BUFCOUNT, CKSUM, FIELDS, FLAGS, FMT, REPSIZE, REQUEST, SIZE, SLOTS };
static const char *const slot_names[SLOTS] = {
    "body", "bufcount", "cksum", "fields", "flags", "fmt", "repsize", "request", "_size",
};

enum twin { MEASURE, ENCODE, DECODE, TWINS };

typedef struct {
    PyObject_HEAD
    struct state *state; /* of the module that `type`s module keeps alive */
    PyTypeObject *type;
    Program *body;
    PyObject *twins[TWINS];
    PyObject *plain;     /* opcode -> Format, where the opcode is enough */
    PyObject *recognise; /* (opcode, buffers) -> Format */
    PyObject *layouts;   /* address of a tuple of buffers -> its layout */
    struct layout *last; /* the one of them that was asked for last */
    Py_ssize_t slots[SLOTS];
    struct row *status; /* of the body */
} Messages;

static PyObject **slot_at(Messages *self, PyObject *message, enum slot slot)
{
    return (PyObject **)((char *)message + self->slots[slot]);
}

/* ---- layouts ---- */

/* The layout of a format's requests or replies; borrowed. NULL where the twin has to do it. */
static struct layout *layout_of(Messages *self, PyObject *fmt, bool request)
{
    if (fmt == NULL || !PyTuple_Check(fmt) || PyTuple_GET_SIZE(fmt) != 3) {
        return NULL;
    }
    PyObject *buffers = PyTuple_GET_ITEM(fmt, request ? 1 : 2);
    if (self->last != NULL && self->last->buffers == buffers) {
        return self->last;
    }
    PyObject *key = PyLong_FromVoidPtr(buffers);
    PyObject *capsule = key == NULL ? NULL : PyDict_GetItemWithError(self->layouts, key);
    if (capsule == NULL && key != NULL && !PyErr_Occurred()) {
        capsule = layout_new(self->state, buffers);
        if (capsule != NULL && PyDict_SetItem(self->layouts, key, capsule) < 0) {
            Py_DECREF(capsule);
            capsule = NULL;
        } else {
            Py_XDECREF(capsule); /* the dict has it */
        }
    }
    Py_XDECREF(key);
    if (capsule == NULL) {
        return NULL;
    }
    self->last = PyCapsule_GetPointer(capsule, NULL);
    return self->last;
}

/* ---- reading ---- */

/* Part of the buffer that a message is read from, not copied. */
static PyObject *view_of(PyObject *buffer, size_t offset, size_t length)
{
    PyObject *whole = PyMemoryView_FromObject(buffer);
    PyObject *part = whole == NULL ? NULL
                                   : PySequence_GetSlice(whole, (Py_ssize_t)offset,
                                                         (Py_ssize_t)(offset + length));
    Py_XDECREF(whole);
    return part;
}

static PyObject *several_read(const struct part *part, const uint8_t *at, size_t length)
{
    size_t count = length / part->size;
    PyObject *list = length % part->size ? NULL : PyList_New((Py_ssize_t)count);
    for (size_t index = 0; list != NULL && index < count; index++) {
        PyObject *one = part->program == NULL
                            ? int_read(at + index * part->size, part->letters[0])
                            : program_read(part->program, at, length, index * part->size, false);
        if (one == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)index, one);
    }
    return list;
}

static Program *record_of(const struct part *part, uint64_t opcode)
{
    for (size_t index = 0; index < part->choice_count; index++) {
        if (part->choices[index].value == opcode) {
            return part->choices[index].program;
        }
    }
    return NULL;
}

/* One buffer's value. NULL, with or without an exception, where it is for the twin. */
static PyObject *part_read(const struct part *part, PyObject *buffer, const uint8_t *bytes,
                           struct wire_buffer where)
{
    const uint8_t *at = bytes + where.offset;
    size_t length = where.length;
    switch (part->kind) {
    case ONE:
        return part->open || length == part->size
                   ? program_read(part->program, at, length, 0, false) : NULL;
    case SEVERAL:
    case NUMBERS:
        return several_read(part, at, length);
    case NUMBER:
        return length == part->size ? int_read(at, part->letters[0]) : NULL;
    case NAME:
        return length == part->size
                   ? tuple_read(part->make, part->letters, false, part->letter_count, at) : NULL;
    case STRING:
        return wire_text(at, length) == length - 1 ? text_read(at, length - 1) : NULL;
    case UUID:
        return length == part->size ? text_read(at, length) : NULL;
    case BYTES:
        return part->view ? view_of(buffer, where.offset, length)
                          : PyBytes_FromStringAndSize((const char *)at, (Py_ssize_t)length);
    default: {
        Program *record = length == part->size ? record_of(part, wire_load(at, 4)) : NULL;
        return record == NULL ? NULL : program_read(record, at, length, 0, false);
    }
    }
}

/* Buffer 0; that of a reply lacks the job id. */
static PyObject *body_read(Messages *self, const uint8_t *at, size_t length, bool request)
{
    uint8_t whole[WIRE_REQUEST_BODY];
    if (length != (request ? WIRE_REQUEST_BODY : WIRE_REPLY_BODY)) {
        return NULL;
    }
    uint64_t type = wire_load(at + BODY_TYPE, 4);
    uint64_t version = wire_load(at + BODY_VERSION, 4);
    bool known = request ? type == REQUEST_TYPE : type == REPLY_TYPE || type == ERROR_TYPE;
    if (!known || (version & ~(uint64_t)VERSION_MASK) != VERSION) {
        return NULL;
    }
    memcpy(whole, at, length);
    memset(whole + length, 0, sizeof whole - length);
    return program_read(self->body, whole, sizeof whole, 0, false);
}

/* The format that a message's bytes show; a new reference. */
static PyObject *format_of(Messages *self, PyObject *buffer, const uint8_t *bytes,
                           const struct wire_message *found, bool request)
{
    const uint8_t *body = bytes + found->buffers[0].offset;
    PyObject *opcode = PyLong_FromLong((long)wire_load(body + BODY_OPCODE, 4));
    PyObject *fmt = opcode == NULL ? NULL : PyDict_GetItemWithError(self->plain, opcode);
    if (fmt != NULL) {
        Py_INCREF(fmt);
    } else if (opcode != NULL && request && !PyErr_Occurred()) {
        PyObject *raws = PyList_New(found->header.bufcount);
        for (uint32_t at = 0; raws != NULL && at < found->header.bufcount; at++) {
            struct wire_buffer where = found->buffers[at];
            PyObject *raw = view_of(buffer, where.offset, where.length);
            if (raw == NULL) {
                Py_CLEAR(raws);
                break;
            }
            PyList_SET_ITEM(raws, at, raw);
        }
        fmt = raws == NULL ? NULL
                           : PyObject_CallFunctionObjArgs(self->recognise, opcode, raws, NULL);
        Py_XDECREF(raws);
    }
    Py_XDECREF(opcode);
    return fmt;
}

/* The values of all buffers that are not empty. */
static PyObject *fields_read(const struct layout *layout, PyObject *buffer, const uint8_t *bytes,
                             const struct wire_message *found)
{
    PyObject *fields = found->header.bufcount - 1 > layout->count ? NULL : PyDict_New();
    for (size_t at = 1; fields != NULL && at < found->header.bufcount; at++) {
        const struct part *part = &layout->parts[at - 1];
        if (found->buffers[at].length == 0) {
            continue;
        }
        PyObject *value = part_read(part, buffer, bytes, found->buffers[at]);
        if (value == NULL || PyDict_SetItem(fields, part->key, value) < 0) {
            Py_CLEAR(fields);
        }
        Py_XDECREF(value);
    }
    return fields;
}

/* Steals the value. */
static bool put(Messages *self, PyObject *message, enum slot slot, PyObject *value)
{
    *slot_at(self, message, slot) = value;
    return value != NULL;
}

static PyObject *message_new(Messages *self, const struct wire_message *found, PyObject *fmt,
                             PyObject *body, PyObject *fields, bool request, size_t length)
{
    const struct wire_header *header = &found->header;
    PyObject *message = self->type->tp_alloc(self->type, 0);
    if (message == NULL) {
        return NULL;
    }
    bool whole = put(self, message, BODY, Py_NewRef(body)) &&
                 put(self, message, FIELDS, Py_NewRef(fields)) &&
                 put(self, message, FMT, Py_NewRef(fmt)) &&
                 put(self, message, REQUEST, PyBool_FromLong(request)) &&
                 put(self, message, FLAGS, PyLong_FromUnsignedLong(header->flags)) &&
                 put(self, message, REPSIZE, PyLong_FromUnsignedLong(header->repsize)) &&
                 put(self, message, CKSUM, PyLong_FromUnsignedLong(header->cksum)) &&
                 put(self, message, SIZE, PyLong_FromSize_t(length));
    if (!whole) {
        Py_CLEAR(message);
    }
    return message;
}

/* A message of these bytes. NULL, with or without an exception, where it is for the twin. */
static PyObject *message_read(Messages *self, PyObject *buffer, const uint8_t *bytes, size_t length,
                              bool request, PyObject *fmt)
{
    struct wire_message found;
    if (!wire_split(bytes, length, &found)) {
        return NULL;
    }
    const uint8_t *at = bytes + found.buffers[0].offset;
    PyObject *message = NULL, *fields = NULL;
    PyObject *body = body_read(self, at, found.buffers[0].length, request);
    if (body == NULL) {
        return NULL;
    }
    fmt = fmt == Py_None ? format_of(self, buffer, bytes, &found, request) : Py_NewRef(fmt);
    struct layout *layout = layout_of(self, fmt, request);
    if (layout != NULL) {
        fields = fields_read(layout, buffer, bytes, &found);
    }
    if (fields != NULL) {
        message = message_new(self, &found, fmt, body, fields, request, length);
    }
    if (message != NULL) { /* how many buffers came, where that does not follow from the rest */
        bool failed = !request && wire_load_signed(at + BODY_STATUS, 4) < 0;
        size_t usual = failed && PyDict_GET_SIZE(fields) == 0 ? 0 : layout->count;
        bool plain = found.header.bufcount - 1 == usual;
        if (!put(self, message, BUFCOUNT, PyLong_FromLong(plain ? 0 : found.header.bufcount))) {
            Py_CLEAR(message);
        }
    }
    Py_DECREF(body);
    Py_XDECREF(fmt);
    Py_XDECREF(fields);
    return message;
}

/* ---- measuring ---- */

static Py_ssize_t several_measure(const struct part *part, PyObject *value)
{
    if (!PyTuple_CheckExact(value) && !PyList_CheckExact(value)) {
        return -1;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(value);
    for (Py_ssize_t at = 0; part->program != NULL && at < count; at++) {
        PyObject *one = PySequence_Fast_ITEMS(value)[at];
        if (program_measure(part->program, one) != (Py_ssize_t)part->size) {
            return -1;
        }
    }
    return count > PY_SSIZE_T_MAX / 2 / (Py_ssize_t)part->size ? -1
                                                               : count * (Py_ssize_t)part->size;
}

static Py_ssize_t text_measure(PyObject *value)
{
    Py_ssize_t size = -1;
    if (PyUnicode_CheckExact(value) && PyUnicode_AsUTF8AndSize(value, &size) == NULL) {
        PyErr_Clear();
        return -1;
    }
    return size;
}

/* The record of a reint, if opcode and struct agree. */
static Program *record_for(const struct part *part, PyObject *value)
{
    for (size_t index = 0; index < part->choice_count; index++) {
        Program *program = part->choices[index].program;
        if (Py_IS_TYPE(value, program->factory)) {
            uint8_t opcode[4];
            bool fits = ((Struct *)value)->program == program &&
                        struct_peek((Struct *)value, program->first, opcode);
            return fits && record_of(part, wire_load(opcode, 4)) == program ? program : NULL;
        }
    }
    return NULL;
}

/* Bytes of a buffer before padding; -1, without an exception, where it is for the twin. */
static Py_ssize_t part_measure(const struct part *part, PyObject *value)
{
    Py_ssize_t size;
    Py_buffer view;
    switch (part->kind) {
    case ONE:
        size = program_measure(part->program, value);
        return part->open || size == (Py_ssize_t)part->size ? size : -1;
    case SEVERAL:
    case NUMBERS:
        return several_measure(part, value);
    case NUMBER:
        return PyLong_Check(value) ? (Py_ssize_t)part->size : -1;
    case NAME:
        return PyObject_TypeCheck(value, part->make) ? (Py_ssize_t)part->size : -1;
    case STRING:
        size = text_measure(value);
        return size < 0 ? -1 : size + 1;
    case UUID:
        return PyUnicode_CheckExact(value) ? (Py_ssize_t)part->size : -1;
    case BYTES:
        if (PyBytes_CheckExact(value)) {
            return PyBytes_GET_SIZE(value);
        }
        if (!(PyMemoryView_Check(value) || PyByteArray_CheckExact(value)) ||
            !plain_bytes(value, &view)) {
            return -1;
        }
        size = view.len;
        PyBuffer_Release(&view);
        return size;
    default:
        return record_for(part, value) == NULL ? -1 : (Py_ssize_t)part->size;
    }
}

/* What a message is made of, as far as its size goes. */
struct shape {
    struct layout *layout;
    PyObject *values[WIRE_BUFFERS]; /* borrowed; NULL: a buffer of no bytes */
    uint32_t lengths[WIRE_BUFFERS + 1];
    size_t count; /* buffers after the body */
    size_t total;
    bool request;
};

/* A number in one of the message's slots; -1, without an exception, if it is none. */
static int64_t number_in(PyObject *held, size_t limit)
{
    uint8_t bytes[8];
    if (held == NULL || !int_write(bytes, 8, held) || wire_load(bytes, 8) > limit) {
        return -1;
    }
    return (int64_t)wire_load(bytes, 8);
}

/* Whether a failure travels as its body alone; -1 where the body is none. */
static int failed(Messages *self, PyObject *body)
{
    uint8_t bytes[4];
    if (body == NULL || !Py_IS_TYPE(body, self->body->factory) ||
        ((Struct *)body)->program != self->body ||
        !struct_peek((Struct *)body, self->status, bytes)) {
        return -1;
    }
    return wire_load_signed(bytes, 4) < 0;
}

/* Measure all; false, without an exception, where it is for the twin. */
static bool shape_of(Messages *self, PyObject *message, struct shape *shape)
{
    PyObject *request = *slot_at(self, message, REQUEST), *fmt = *slot_at(self, message, FMT);
    PyObject *fields = *slot_at(self, message, FIELDS);
    int64_t bufcount = number_in(*slot_at(self, message, BUFCOUNT), WIRE_BUFFERS);
    int failure = failed(self, *slot_at(self, message, BODY));
    if ((request != Py_True && request != Py_False) || fields == NULL ||
        !PyDict_CheckExact(fields) || bufcount < 0 || failure < 0) {
        return false;
    }
    shape->request = request == Py_True;
    shape->layout = layout_of(self, fmt, shape->request);
    if (shape->layout == NULL) {
        return false;
    }
    bool alone = failure && !shape->request && PyDict_GET_SIZE(fields) == 0;
    shape->count = alone && bufcount == 0 ? 0 : shape->layout->count;
    if (bufcount > 0 && (size_t)bufcount - 1 < shape->layout->count) {
        shape->count = (size_t)bufcount - 1;
    }
    Py_ssize_t found = 0;
    shape->lengths[0] = shape->request ? WIRE_REQUEST_BODY : WIRE_REPLY_BODY;
    shape->total = wire_start((unsigned)shape->count + 1) + shape->lengths[0];
    for (size_t at = 0; at < shape->count; at++) {
        struct part *part = &shape->layout->parts[at];
        PyObject *value = PyDict_GetItemWithError(fields, part->key);
        Py_ssize_t size = value == NULL ? 0 : part_measure(part, value);
        if (size < 0 || size > INT32_MAX || PyErr_Occurred()) {
            return false;
        }
        shape->values[at] = value;
        shape->lengths[at + 1] = (uint32_t)size;
        shape->total += wire_align((size_t)size);
        found += value != NULL;
    }
    return found == PyDict_GET_SIZE(fields);
}

/* ---- writing ---- */

static bool several_write(const struct part *part, PyObject *value, uint8_t *at, size_t size)
{
    Py_ssize_t count = (Py_ssize_t)(size / part->size);
    if (part->program == NULL) {
        return ints_write(part->letters, true, count, value, at);
    }
    for (Py_ssize_t index = 0; index < count; index++, at += part->size) {
        PyObject *one = PySequence_Fast_ITEMS(value)[index];
        if (!program_write(part->program, one, at, part->size, false)) {
            return false;
        }
    }
    return true;
}

static bool bytes_write(PyObject *value, uint8_t *at, size_t size)
{
    Py_buffer view;
    if (!plain_bytes(value, &view)) {
        return false;
    }
    bool fits = (size_t)view.len == size;
    if (fits) {
        memcpy(at, view.buf, size);
    }
    PyBuffer_Release(&view);
    return fits;
}

/* Write a buffer that was measured; all of `size` is set. False where it is for the twin. */
static bool part_write(const struct part *part, PyObject *value, uint8_t *at, size_t size)
{
    switch (part->kind) {
    case ONE:
        return program_write(part->program, value, at, size, false);
    case SEVERAL:
    case NUMBERS:
        return several_write(part, value, at, size);
    case NUMBER:
        return int_write(at, part->letters[0], value);
    case NAME:
        return ints_write(part->letters, false, part->letter_count, value, at);
    case STRING:
        return text_write(value, at, size) && wire_text(at, size) == size - 1;
    case UUID:
        return text_write(value, at, size);
    case BYTES:
        return bytes_write(value, at, size);
    default:
        return program_write(record_for(part, value), value, at, size, false);
    }
}

/* The bytes. NULL, with or without an exception, where it is for the twin. */
static PyObject *message_write(Messages *self, PyObject *message)
{
    struct shape shape;
    struct wire_header header = {0, 0, WIRE_MAGIC, 0, 0, 0};
    int64_t repsize = number_in(*slot_at(self, message, REPSIZE), UINT32_MAX);
    int64_t cksum = number_in(*slot_at(self, message, CKSUM), UINT32_MAX);
    int64_t flags = number_in(*slot_at(self, message, FLAGS), UINT32_MAX);
    int64_t known = number_in(*slot_at(self, message, SIZE), SIZE_MAX / 2);
    if (repsize < 0 || cksum < 0 || flags < 0 || !shape_of(self, message, &shape) ||
        (known != 0 && known != (int64_t)shape.total)) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)shape.total);
    if (bytes == NULL) {
        return NULL;
    }
    uint8_t whole[WIRE_REQUEST_BODY], *start = (uint8_t *)PyBytes_AS_STRING(bytes);
    header.bufcount = (uint32_t)shape.count + 1;
    header.repsize = (uint32_t)repsize;
    header.cksum = (uint32_t)cksum;
    header.flags = (uint32_t)flags;
    wire_put_header(start, &header, shape.lengths);
    size_t at = wire_start(header.bufcount);
    PyObject *body = *slot_at(self, message, BODY);
    bool fits = program_write(self->body, body, whole, sizeof whole, false);
    memcpy(start + at, whole, fits ? shape.lengths[0] : 0);
    at += shape.lengths[0];
    for (size_t index = 0; fits && index < shape.count; index++) {
        size_t size = shape.lengths[index + 1], padded = wire_align(size);
        fits = shape.values[index] == NULL ||
               part_write(&shape.layout->parts[index], shape.values[index], start + at, size);
        memset(start + at + size, 0, padded - size);
        at += padded;
    }
    if (!fits) {
        Py_CLEAR(bytes);
    } else if (known == 0) {
        Py_XSETREF(*slot_at(self, message, SIZE), PyLong_FromSize_t(shape.total));
    }
    return bytes;
}

/* ---- the type ---- */

static PyObject *ask(Messages *self, enum twin which, PyObject *const *args, Py_ssize_t count)
{
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    return PyObject_Vectorcall(self->twins[which], args, (size_t)count, NULL);
}

static PyObject *messages_measure(Messages *self, PyObject *message)
{
    struct shape shape;
    if (Py_IS_TYPE(message, self->type) && shape_of(self, message, &shape)) {
        return PyLong_FromSize_t(shape.total);
    }
    return ask(self, MEASURE, &message, 1);
}

static PyObject *messages_encode(Messages *self, PyObject *message)
{
    PyObject *bytes = Py_IS_TYPE(message, self->type) ? message_write(self, message) : NULL;
    return bytes != NULL ? bytes : ask(self, ENCODE, &message, 1);
}

static PyObject *messages_decode(Messages *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    PyObject *message = NULL;
    if (count == 3 && PyBool_Check(args[1]) && PyBytes_CheckExact(args[0])) {
        message = message_read(self, args[0], (const uint8_t *)PyBytes_AS_STRING(args[0]),
                               (size_t)PyBytes_GET_SIZE(args[0]), args[1] == Py_True, args[2]);
    } else if (count == 3 && PyBool_Check(args[1]) && plain_bytes(args[0], &view)) {
        message = message_read(self, args[0], view.buf, (size_t)view.len, args[1] == Py_True,
                               args[2]);
        PyBuffer_Release(&view);
    }
    return message != NULL ? message : ask(self, DECODE, args, count);
}

static int messages_fill(Messages *self, PyObject *table, PyObject *twins)
{
    PyObject *status = PyUnicode_FromString("status");
    int result = status == NULL ? -1 : 0;
    for (int at = 0; result == 0 && at < SLOTS; at++) {
        PyObject *name = PyUnicode_FromString(slot_names[at]);
        result = name == NULL ? -1 : slot_of(self->type, name, &self->slots[at]);
        Py_XDECREF(name);
    }
    self->body = result < 0 ? NULL : program_of(self->state, table);
    self->layouts = PyDict_New();
    if (self->body == NULL || self->layouts == NULL || self->body->size != WIRE_REQUEST_BODY ||
        self->body->tail != NULL || PyTuple_GET_SIZE(twins) != TWINS) {
        result = -1;
    }
    if (result == 0) {
        self->status = row_named(self->body, status);
        bool signed32 = self->status != NULL && self->status->kind == INT &&
                        self->status->letters[0] == -4;
        result = signed32 ? 0 : -1;
    }
    for (int at = 0; result == 0 && at < TWINS; at++) {
        self->twins[at] = Py_NewRef(PyTuple_GET_ITEM(twins, at));
    }
    Py_XDECREF(status);
    if (result < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_TypeError, "no message and body that C knows");
    }
    return result;
}

static PyObject *messages_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *message, *table, *twins, *plain, *recognise;
    static char *names[] = {"message", "body", "twins", "plain", "recognise", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!OO!O!O:Messages", names, &PyType_Type,
                                     &message, &table, &PyTuple_Type, &twins, &PyDict_Type, &plain,
                                     &recognise)) {
        return NULL;
    }
    PyObject *module = PyType_GetModuleByDef(type, &module_definition);
    Messages *self = module == NULL ? NULL : (Messages *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = PyModule_GetState(module);
    self->type = (PyTypeObject *)Py_NewRef(message);
    self->plain = Py_NewRef(plain);
    self->recognise = Py_NewRef(recognise);
    if (messages_fill(self, table, twins) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int messages_traverse(Messages *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->type);
    Py_VISIT(self->body);
    Py_VISIT(self->plain);
    Py_VISIT(self->recognise);
    Py_VISIT(self->layouts);
    for (int at = 0; at < TWINS; at++) {
        Py_VISIT(self->twins[at]);
    }
    return 0;
}

static void messages_dealloc(Messages *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->type);
    Py_CLEAR(self->body);
    Py_CLEAR(self->plain);
    Py_CLEAR(self->recognise);
    Py_CLEAR(self->layouts);
    for (int at = 0; at < TWINS; at++) {
        Py_CLEAR(self->twins[at]);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"measure", (PyCFunction)messages_measure, METH_O, "Bytes of a message on the wire."},
    {"encode", (PyCFunction)messages_encode, METH_O, "A message's bytes."},
    {"decode", (PyCFunction)(void (*)(void))messages_decode, METH_FASTCALL,
     "decode(buffer, request, format or None): the message."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot messages_slots[] = {
    {Py_tp_doc, "Reads and writes messages; see labsim.pure.messages.Messages."},
    {Py_tp_new, messages_new},
    {Py_tp_methods, methods},
    {Py_tp_traverse, messages_traverse},
    {Py_tp_dealloc, messages_dealloc},
    {0, NULL},
};

PyType_Spec messages_spec = {
    .name = "labsim._wire.Messages",
    .basicsize = sizeof(Messages),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = messages_slots,
};
