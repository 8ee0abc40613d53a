/* The module labsim._wire: its functions, its state. */
#include "wire_program.h"

#include <string.h>

/* generate(table, what): as labsim.pure.codec.generate, pack and unpack in C. */
static PyObject *generate(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct state *state = PyModule_GetState(module);
    if (count != 2 || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "generate(table, what)");
        return NULL;
    }
    bool pack = PyUnicode_CompareWithASCIIString(args[1], "pack") == 0;
    bool unpack = PyUnicode_CompareWithASCIIString(args[1], "unpack") == 0;
    if (pack || unpack) {
        Program *program = program_of(state, args[0]);
        if (program != NULL) {
            PyObject *made = pack ? packer_new(state, program) : unpacker_new(state, program);
            Py_DECREF(program);
            return made;
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return NULL;
        }
        PyErr_Clear(); /* no table that C can run */
    }
    return PyObject_Vectorcall(state->generate, args, (size_t)count, NULL);
}

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

static int module_exec(PyObject *module)
{
    struct state *state = PyModule_GetState(module);
    PyObject *twin = PyImport_ImportModule("labsim.pure.codec");
    state->generate = twin == NULL ? NULL : PyObject_GetAttrString(twin, "generate");
    Py_XDECREF(twin);
    state->programs = PyDict_New();
    if (state->generate == NULL || state->programs == NULL ||
        add_type(module, &program_spec, &state->program_type) < 0 ||
        add_type(module, &packer_spec, &state->packer_type) < 0 ||
        add_type(module, &messages_spec, &state->messages_type) < 0) {
        return -1;
    }
    return add_type(module, &unpacker_spec, &state->unpacker_type);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct state *state = PyModule_GetState(module);
    Py_VISIT(state->program_type);
    Py_VISIT(state->packer_type);
    Py_VISIT(state->unpacker_type);
    Py_VISIT(state->messages_type);
    Py_VISIT(state->generate);
    Py_VISIT(state->programs);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct state *state = PyModule_GetState(module);
    Py_CLEAR(state->program_type);
    Py_CLEAR(state->packer_type);
    Py_CLEAR(state->unpacker_type);
    Py_CLEAR(state->messages_type);
    Py_CLEAR(state->generate);
    Py_CLEAR(state->programs);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyMethodDef functions[] = {
    {"generate", (PyCFunction)(void (*)(void))generate, METH_FASTCALL,
     "generate(table, what): as labsim.pure.codec.generate; pack and unpack in C."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "labsim._wire",
    .m_doc = "The codec of wire structs and messages in C.",
    .m_size = sizeof(struct state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__wire(void)
{
    return PyModuleDef_Init(&module_definition);
}
