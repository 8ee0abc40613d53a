/* Runs the op table of one struct: bytes to a wire object and back; see wire_program.h.
 *
 * The documentation stands in the twin, labsim/pure/codec.py. C does what is usual; whatever does
 * not fit, bytes as well as objects, is left to the twin, whose errors name struct and field. So
 * both read and refuse the same.
 */
#include "wire_program.h"

#include <string.h>

/* ---- integers ---- */

letter letter_of(Py_UCS4 character)
{
    switch (character) {
    case 'B': return 1;
    case 'H': return 2;
    case 'I': return 4;
    case 'Q': return 8;
    case 'b': return -1;
    case 'h': return -2;
    case 'i': return -4;
    case 'q': return -8;
    default: return 0;
    }
}

PyObject *int_read(const uint8_t *at, letter letter)
{
    if (letter < 0) {
        return PyLong_FromLongLong(wire_load_signed(at, (unsigned)-letter));
    }
    uint64_t value = wire_load(at, (unsigned)letter);
    return value <= LONG_MAX ? PyLong_FromLong((long)value) : PyLong_FromUnsignedLongLong(value);
}

/* The value of an int that is not negative and fits 64 bits, without asking Python. */
static inline bool quick_value(PyObject *value, uint64_t *number)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)value)) {
        return false;
    }
    Py_ssize_t small = PyUnstable_Long_CompactValue((PyLongObject *)value);
    *number = (uint64_t)small;
    return small >= 0;
#elif PYLONG_BITS_IN_DIGIT == 30
    const digit *digits = ((PyLongObject *)value)->ob_digit;
    switch (Py_SIZE(value)) {
    case 0:
        *number = 0;
        return true;
    case 1:
        *number = digits[0];
        return true;
    case 2:
        *number = digits[0] | (uint64_t)digits[1] << 30;
        return true;
    case 3:
        *number = digits[0] | (uint64_t)digits[1] << 30 | (uint64_t)digits[2] << 60;
        return digits[2] < 16;
    default:
        return false;
    }
#else
    return false;
#endif
}

bool int_write(uint8_t *at, letter letter, PyObject *value)
{
    if (value == NULL || (!PyLong_CheckExact(value) && !PyLong_Check(value))) {
        return false;
    }
    uint64_t number;
    unsigned width = (unsigned)(letter < 0 ? -letter : letter);
    if (letter < 0 && quick_value(value, &number) && number >> (8 * width - 1) == 0) {
        wire_store(at, width, number);
        return true;
    }
    if (letter < 0) {
        int overflow;
        int64_t whole = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow != 0 || !wire_fits_signed(whole, width)) {
            return false;
        }
        number = (uint64_t)whole;
    } else if (!quick_value(value, &number)) {
        number = PyLong_AsUnsignedLongLong(value);
        if (number == UINT64_MAX && PyErr_Occurred()) {
            PyErr_Clear();
            return false;
        }
    }
    if (letter > 0 && !wire_fits(number, width)) {
        return false;
    }
    wire_store(at, width, number);
    return true;
}

/* An integer that chooses or counts. A negative one is larger than any count. */
static uint64_t int_peek(const uint8_t *at, letter letter)
{
    return letter < 0 ? (uint64_t)wire_load_signed(at, (unsigned)-letter)
                      : wire_load(at, (unsigned)letter);
}

bool plain_bytes(PyObject *object, Py_buffer *view)
{
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return false;
    }
    if (view->itemsize != 1) {
        PyBuffer_Release(view);
        return false;
    }
    return true;
}

/* ---- reading ---- */

/* A named tuple, or a plain one where `make` is NULL, of `count` integers. */
PyObject *tuple_read(PyTypeObject *make, const letter *letters, bool same, Py_ssize_t count,
                     const uint8_t *at)
{
    PyObject *tuple = make == NULL ? PyTuple_New(count) : make->tp_alloc(make, count);
    for (Py_ssize_t index = 0; tuple != NULL && index < count; index++) {
        letter one = letters[same ? 0 : index];
        PyObject *number = int_read(at, one);
        if (number == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, index, number);
        at += one < 0 ? -one : one;
    }
    return tuple;
}

PyObject *text_read(const uint8_t *at, size_t room)
{
    size_t size = wire_text(at, room);
    return PyUnicode_DecodeUTF8((const char *)at, (Py_ssize_t)size, "surrogateescape");
}

static PyObject *union_read(const struct row *row, const uint8_t *base)
{
    uint64_t value = int_peek(base + row->selector, row->selector_letter);
    for (size_t index = 0; index < row->choice_count; index++) {
        if (row->choices[index].value == value) {
            Program *program = row->choices[index].program;
            return program == NULL ? Py_NewRef(Py_None)
                                   : program_read(program, base + row->offset, row->size, 0, false);
        }
    }
    return NULL;
}

/* The elements after the fixed part; `left` bytes are there. */
static PyObject *tail_read(const struct row *row, const uint8_t *base, size_t left)
{
    const uint8_t *at = base + row->offset;
    uint64_t count = row->counted ? int_peek(base + row->selector, row->selector_letter) : 0;
    if (!wire_tail(left, row->step, row->count, row->counted, &count)) {
        return NULL;
    }
    if (row->program == NULL && row->letters[0] == 0) {
        return PyBytes_FromStringAndSize((const char *)at, (Py_ssize_t)count);
    }
    if (row->program == NULL && row->make == NULL) {
        return tuple_read(NULL, row->letters, true, (Py_ssize_t)count, at);
    }
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (uint64_t index = 0; tuple != NULL && index < count; index++) {
        size_t offset = index * row->step;
        PyObject *one = row->program == NULL
                            ? tuple_read(row->make, row->letters, false,
                                         row->parts, at + offset)
                            : program_read(row->program, at, left, offset, false);
        if (one == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)index, one);
    }
    return tuple;
}

/* What a struct within another has after its fixed part. */
static PyObject *no_tail(const struct row *row)
{
    bool bytes = row->program == NULL && row->letters[0] == 0;
    return bytes ? PyBytes_FromStringAndSize(NULL, 0) : PyTuple_New(0);
}

PyObject *row_value(const struct row *row, const uint8_t *base)
{
    const uint8_t *at = base + row->offset;
    switch (row->kind) {
    case INT:
        return int_read(at, row->letters[0]);
    case INTS:
    case RECORD:
        if (wire_zero(at, row->size)) {
            return Py_NewRef(row->nothing);
        }
        return tuple_read(row->make, row->letters, row->kind == INTS, row->count, at);
    case TEXT:
        return text_read(at, row->size);
    case OCTETS:
        return PyBytes_FromStringAndSize((const char *)at, (Py_ssize_t)row->size);
    case STRUCT: {
        Struct *inner = struct_alloc(row->program);
        if (inner != NULL && row->program->plain) {
            memcpy(struct_bytes(inner), at, row->program->fixed);
        } else if (inner != NULL) { /* others are read at once: nobody gave one */
            memset(struct_bytes(inner), 0, row->program->fixed);
        }
        return (PyObject *)inner;
    }
    case UNION:
        return Py_NewRef(Py_None);
    default:
        return Py_NewRef(row->nothing);
    }
}

/* What is more than a copy of bytes. `left` bytes are there. */
static bool row_read(const struct row *row, const uint8_t *base, size_t left, bool nested,
                     Struct *value)
{
    uint8_t *own = struct_bytes(value) + row->offset;
    PyObject *made;
    switch (row->kind) {
    case STRUCT:
        if (row->program->plain) {
            return true;
        }
        made = program_read(row->program, base + row->offset, left - row->offset, 0, true);
        break;
    case UNION:
        made = union_read(row, base);
        memset(own, 0, row->size);
        break;
    default:
        made = nested ? no_tail(row) : tail_read(row, base, left - row->offset);
    }
    value->slots[row->slot] = made;
    if (made != NULL) {
        struct_keep(value, made);
    }
    return made != NULL;
}

PyObject *program_read(Program *program, const uint8_t *bytes, size_t length, size_t offset,
                       bool nested)
{
    if (!wire_inside(offset, program->fixed, length)) {
        return NULL;
    }
    Struct *value = struct_alloc(program);
    if (value == NULL) {
        return NULL;
    }
    const uint8_t *base = bytes + offset;
    uint8_t *own = struct_bytes(value);
    memcpy(own, base, program->fixed);
    for (size_t at = 0; at < program->text_count; at++) {
        const struct row *row = program->texts[at];
        if (!wire_zero(own + row->offset, row->size)) { /* after a NUL nothing is meant */
            size_t size = wire_text(own + row->offset, row->size);
            memset(own + row->offset + size, 0, row->size - size);
        }
    }
    for (size_t at = 0; at < program->apart_count; at++) {
        if (!row_read(program->apart[at], base, length - offset, nested, value)) {
            Py_DECREF(value);
            return NULL;
        }
    }
    return (PyObject *)value;
}

/* ---- writing ---- */

/* Integers out of a tuple or list of exactly so many. */
bool ints_write(const letter *letters, bool same, Py_ssize_t count, PyObject *value, uint8_t *at)
{
    if (value == NULL || !(PyTuple_Check(value) || PyList_CheckExact(value)) ||
        PySequence_Fast_GET_SIZE(value) != count) {
        return false;
    }
    PyObject **items = PySequence_Fast_ITEMS(value);
    for (Py_ssize_t index = 0; index < count; index++) {
        letter one = letters[same ? 0 : index];
        if (!int_write(at, one, items[index])) {
            return false;
        }
        at += one < 0 ? -one : one;
    }
    return true;
}

/* The whole field is written: zeros where the text ends. */
bool text_write(PyObject *value, uint8_t *at, size_t room)
{
    if (value == NULL || !PyUnicode_CheckExact(value)) {
        return false;
    }
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == NULL) { /* surrogates: bytes that are no UTF-8 */
        PyErr_Clear();
        return false;
    }
    if ((size_t)size > room) {
        return false;
    }
    memcpy(at, text, (size_t)size);
    memset(at + size, 0, room - (size_t)size);
    return true;
}

/* Bytes of a text that was just written. */
static size_t text_size(PyObject *value)
{
    Py_ssize_t size = 0;
    return PyUnicode_AsUTF8AndSize(value, &size) == NULL ? SIZE_MAX : (size_t)size;
}

static bool octets_write(PyObject *value, uint8_t *at, size_t room)
{
    if (value == NULL || !PyBytes_CheckExact(value) || (size_t)PyBytes_GET_SIZE(value) > room) {
        return false;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(value);
    memcpy(at, PyBytes_AS_STRING(value), size);
    memset(at + size, 0, room - size);
    return true;
}

static bool union_write(const struct row *row, PyObject *value, uint8_t *at)
{
    if (value == Py_None) {
        memset(at, 0, row->size);
        return true;
    }
    for (size_t index = 0; value != NULL && index < row->choice_count; index++) {
        Program *program = row->choices[index].program;
        if (program != NULL && program->factory == Py_TYPE(value) && program->tail == NULL) {
            memset(at + program->size, 0, row->size - program->size);
            return program_write(program, value, at, program->size, false);
        }
    }
    return false;
}

static bool tail_write(const struct row *row, PyObject *value, uint8_t *at, size_t measured)
{
    if (row->program == NULL && row->letters[0] == 0) {
        return octets_write(value, at, measured);
    }
    Py_ssize_t count = (Py_ssize_t)(measured / row->step);
    if (row->program == NULL && row->make == NULL) {
        return ints_write(row->letters, true, count, value, at);
    }
    if (value == NULL || !(PyTuple_CheckExact(value) || PyList_CheckExact(value)) ||
        PySequence_Fast_GET_SIZE(value) != count) {
        return false;
    }
    for (Py_ssize_t index = 0; index < count; index++, at += row->step) {
        PyObject *one = PySequence_Fast_ITEMS(value)[index];
        bool fits = row->program == NULL
                        ? ints_write(row->letters, false, row->parts, one, at)
                        : row->program->tail == NULL &&
                              program_write(row->program, one, at, row->step, false);
        if (!fits) {
            return false;
        }
    }
    return true;
}

bool row_store(const struct row *row, PyObject *value, uint8_t *base, bool exactly)
{
    uint8_t *at = base + row->offset;
    switch (row->kind) {
    case INT:
        return (!exactly || PyLong_CheckExact(value)) && int_write(at, row->letters[0], value);
    case INTS:
    case RECORD: /* a list could change later */
        return (!exactly || PyTuple_Check(value)) &&
               ints_write(row->letters, row->kind == INTS, row->count, value, at);
    case TEXT:
        return text_write(value, at, row->size) &&
               (!exactly || wire_text(at, row->size) == text_size(value));
    case OCTETS:
        return octets_write(value, at, row->size) &&
               (!exactly || (size_t)PyBytes_GET_SIZE(value) == row->size);
    default:
        return false;
    }
}

Py_ssize_t program_measure(Program *program, PyObject *value)
{
    Struct *self = (Struct *)value;
    if (!Py_IS_TYPE(value, program->factory) || self->program != program) {
        return -1;
    }
    const struct row *tail = program->tail;
    if (tail == NULL) {
        return (Py_ssize_t)program->size;
    }
    PyObject *held = self->slots[tail->slot];
    if (held == NULL) {
        held = tail->nothing;
    }
    Py_ssize_t count = PyTuple_CheckExact(held) ? PyTuple_GET_SIZE(held)
                       : PyList_CheckExact(held)  ? PyList_GET_SIZE(held)
                       : PyBytes_CheckExact(held) ? PyBytes_GET_SIZE(held) : -1;
    if (count < 0 || count > (Py_ssize_t)(PY_SSIZE_T_MAX / 2 / tail->step)) {
        return -1;
    }
    return (Py_ssize_t)(tail->offset + (size_t)count * tail->step);
}

/* What the bytes of an object do not say. */
static bool odd_write(Struct *self, uint8_t *at)
{
    Py_ssize_t place = 0;
    PyObject *name, *value;
    while (PyDict_Next(self->odd, &place, &name, &value)) {
        const struct row *row = row_named(self->program, name);
        if (row == NULL || value == (PyObject *)self->program ||
            !row_store(row, value, at, false)) {
            return false;
        }
    }
    return true;
}

static bool row_write(const struct row *row, PyObject *value, uint8_t *base, size_t measured,
                      bool nested)
{
    uint8_t *at = base + row->offset;
    switch (row->kind) {
    case STRUCT:
        if (value == NULL) {
            return true;
        }
        if (row->program->tail != NULL) { /* not written within another struct */
            memset(at, 0, row->size);
        }
        return program_write(row->program, value, at, row->size, true);
    case UNION:
        return union_write(row, value == NULL ? Py_None : value, at);
    default:
        return nested || tail_write(row, value == NULL ? row->nothing : value, at,
                                    measured - row->offset);
    }
}

bool program_write(Program *program, PyObject *value, uint8_t *at, size_t measured, bool nested)
{
    Struct *self = (Struct *)value;
    if (!Py_IS_TYPE(value, program->factory) || self->program != program) {
        return false;
    }
    memcpy(at, struct_bytes(self), program->fixed);
    for (size_t index = 0; index < program->apart_count; index++) {
        const struct row *row = program->apart[index];
        if (!row_write(row, self->slots[row->slot], at, measured, nested)) {
            return false;
        }
    }
    return self->odd == NULL || odd_write(self, at);
}

/* ---- the twin ---- */

PyObject *ask_twin(Program *program, int which, PyObject *const *args, size_t count,
                   PyObject *names)
{
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    PyObject **twin = &program->twins[which];
    if (*twin == NULL) {
        *twin = PyObject_CallFunction(program->generate, "Os", program->table,
                                      which == 0 ? "pack" : "unpack");
    }
    return *twin == NULL ? NULL : PyObject_Vectorcall(*twin, args, count, names);
}
