/* Runs the op table of one struct: bytes to a Python object and back; see wire_program.h.
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

/* Most integers on the wire are zero; asking Python for that one takes longest. */
static inline PyObject *cell_read(PyObject *zero, const uint8_t *at, letter letter)
{
    if (letter > 0) {
        uint64_t value = wire_load(at, (unsigned)letter);
        if (value == 0) {
            return Py_NewRef(zero);
        }
        if (value <= LONG_MAX) {
            return PyLong_FromLong((long)value);
        }
    }
    return int_read(at, letter);
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

/* One attribute's value; the fixed part is there. */
static PyObject *row_read(const struct row *row, const uint8_t *base, size_t left, bool nested)
{
    const uint8_t *at = base + row->offset;
    switch (row->kind) {
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
    case STRUCT:
        return program_read(row->program, at, left - row->offset, 0, true);
    case UNION:
        return union_read(row, base);
    default:
        return nested ? no_tail(row) : tail_read(row, base, left - row->offset);
    }
}

PyObject *program_read(Program *program, const uint8_t *bytes, size_t length, size_t offset,
                       bool nested)
{
    size_t fixed = program->tail == NULL ? program->size : program->tail->offset;
    if (!wire_inside(offset, fixed, length)) {
        return NULL;
    }
    PyTypeObject *type = program->factory;
    PyObject *value = type->tp_alloc(type, 0);
    if (value == NULL) {
        return NULL;
    }
    const uint8_t *base = bytes + offset;
    const struct cell *cells_end = program->cells + program->cell_count;
    for (const struct cell *cell = program->cells; cell < cells_end; cell++) {
        PyObject *one = cell_read(program->zero, base + cell->offset, cell->letter);
        *(PyObject **)((char *)value + cell->slot) = one;
        if (one == NULL) {
            goto failed;
        }
    }
    const struct row *end = program->rows + program->row_count;
    for (const struct row *row = program->rows; row < end; row++) {
        PyObject *one = row_read(row, base, length - offset, nested);
        *(PyObject **)((char *)value + row->slot) = one;
        if (one == NULL) {
            goto failed;
        }
    }
    return value;
failed:
    Py_DECREF(value);
    return NULL;
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

static bool row_write(const struct row *row, PyObject *value, uint8_t *base, size_t measured,
                      bool nested)
{
    uint8_t *at = base + row->offset;
    switch (row->kind) {
    case INTS:
    case RECORD:
        if (value != NULL && value == row->nothing) {
            memset(at, 0, row->size);
            return true;
        }
        return ints_write(row->letters, row->kind == INTS, row->count, value, at);
    case TEXT:
        return text_write(value, at, row->size);
    case OCTETS:
        return octets_write(value, at, row->size);
    case STRUCT:
        if (row->program->tail != NULL) { /* not written within another struct */
            memset(at, 0, row->size);
        }
        return value != NULL && program_write(row->program, value, at, row->size, true);
    case UNION:
        return union_write(row, value, at);
    default:
        return nested || tail_write(row, value, at, measured - row->offset);
    }
}

Py_ssize_t program_measure(Program *program, PyObject *value)
{
    if (!Py_IS_TYPE(value, program->factory)) {
        return -1;
    }
    const struct row *tail = program->tail;
    if (tail == NULL) {
        return (Py_ssize_t)program->size;
    }
    PyObject *held = *(PyObject **)((char *)value + tail->slot);
    Py_ssize_t count = held == NULL ? -1
                       : PyTuple_CheckExact(held) ? PyTuple_GET_SIZE(held)
                       : PyList_CheckExact(held)  ? PyList_GET_SIZE(held)
                       : PyBytes_CheckExact(held) ? PyBytes_GET_SIZE(held) : -1;
    if (count < 0 || count > (Py_ssize_t)(PY_SSIZE_T_MAX / 2 / tail->step)) {
        return -1;
    }
    return (Py_ssize_t)(tail->offset + (size_t)count * tail->step);
}

bool program_write(Program *program, PyObject *value, uint8_t *at, size_t measured, bool nested)
{
    if (!Py_IS_TYPE(value, program->factory)) {
        return false;
    }
    const struct cell *cells_end = program->cells + program->cell_count;
    for (const struct cell *cell = program->cells; cell < cells_end; cell++) {
        PyObject *one = *(PyObject **)((char *)value + cell->slot);
        if (!int_write(at + cell->offset, cell->letter, one)) {
            return false;
        }
    }
    const struct row *end = program->rows + program->row_count;
    for (const struct row *row = program->rows; row < end; row++) {
        if (!row_write(row, *(PyObject **)((char *)value + row->slot), at, measured, nested)) {
            return false;
        }
    }
    return true;
}

/* ---- the functions that a class gets ---- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Program *program;
} Function;

PyObject *program_twin(Program *program, int which)
{
    if (program->twins[which] == NULL) {
        program->twins[which] = PyObject_CallFunction(program->generate, "Os", program->table,
                                                      which == 0 ? "pack" : "unpack");
    }
    return program->twins[which];
}

static PyObject *ask_twin(Program *program, int which, PyObject *const *args, size_t count,
                          PyObject *names)
{
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    PyObject *twin = program_twin(program, which);
    return twin == NULL ? NULL : PyObject_Vectorcall(twin, args, count, names);
}

static PyObject *packer_call(PyObject *self, PyObject *const *args, size_t flags, PyObject *names)
{
    Program *program = ((Function *)self)->program;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (count == 1 && names == NULL) {
        Py_ssize_t size = program_measure(program, args[0]);
        PyObject *bytes = size < 0 ? NULL : PyBytes_FromStringAndSize(NULL, size);
        if (bytes != NULL) {
            if (program_write(program, args[0], (uint8_t *)PyBytes_AS_STRING(bytes),
                              (size_t)size, false)) {
                return bytes;
            }
            Py_DECREF(bytes);
        }
    }
    return ask_twin(program, 0, args, (size_t)count, names);
}

static PyObject *unpacker_call(PyObject *self, PyObject *const *args, size_t flags,
                               PyObject *names)
{
    Program *program = ((Function *)self)->program;
    Py_ssize_t count = PyVectorcall_NARGS(flags), offset = 0;
    PyObject *value = NULL;
    Py_buffer view;
    if (count == 2 && PyLong_CheckExact(args[1])) {
        offset = PyLong_AsSsize_t(args[1]); /* negative: an error, or counted from the end */
    }
    if (names != NULL || count < 1 || count > 2 || offset < 0 ||
        (count == 2 && !PyLong_CheckExact(args[1]))) {
        return ask_twin(program, 1, args, (size_t)count, names);
    }
    if (PyBytes_CheckExact(args[0])) {
        value = program_read(program, (const uint8_t *)PyBytes_AS_STRING(args[0]),
                             (size_t)PyBytes_GET_SIZE(args[0]), (size_t)offset, false);
    } else if (plain_bytes(args[0], &view)) {
        value = program_read(program, view.buf, (size_t)view.len, (size_t)offset, false);
        PyBuffer_Release(&view);
    }
    return value != NULL ? value : ask_twin(program, 1, args, (size_t)count, names);
}

static PyObject *function_new(PyTypeObject *type, Program *program, vectorcallfunc call)
{
    Function *self = (Function *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->call = call;
        self->program = (Program *)Py_NewRef((PyObject *)program);
    }
    return (PyObject *)self;
}

PyObject *packer_new(struct state *state, Program *program)
{
    return function_new(state->packer_type, program, packer_call);
}

PyObject *unpacker_new(struct state *state, Program *program)
{
    return function_new(state->unpacker_type, program, unpacker_call);
}

static PyObject *packer_bind(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL || object == Py_None ? Py_NewRef(self) : PyMethod_New(self, object);
}

/* No tp_clear: a function is as unchangeable as a tuple; its class lets go of it. */
static int function_traverse(Function *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->program);
    return 0;
}

static void function_dealloc(Function *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->program);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Function, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot packer_slots[] = {
    {Py_tp_doc, "pack(self) of one struct; see labsim.pure.codec."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, packer_bind},
    {Py_tp_members, function_members},
    {Py_tp_traverse, function_traverse},
    {Py_tp_dealloc, function_dealloc},
    {0, NULL},
};

static PyType_Slot unpacker_slots[] = {
    {Py_tp_doc, "unpack(buffer, offset=0) of one struct; see labsim.pure.codec."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, function_members},
    {Py_tp_traverse, function_traverse},
    {Py_tp_dealloc, function_dealloc},
    {0, NULL},
};

#define FUNCTION_FLAGS                                                                          \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |                     \
     Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

PyType_Spec packer_spec = {
    .name = "labsim._wire.Packer",
    .basicsize = sizeof(Function),
    .flags = FUNCTION_FLAGS | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = packer_slots,
};

PyType_Spec unpacker_spec = {
    .name = "labsim._wire.Unpacker",
    .basicsize = sizeof(Function),
    .flags = FUNCTION_FLAGS,
    .slots = unpacker_slots,
};
