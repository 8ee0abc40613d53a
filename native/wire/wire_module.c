/* The module labsim._wire: its functions, its state. */
#include "wire_program.h"

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
    state->types = PyDict_New();
    if (state->generate == NULL || state->programs == NULL || state->types == NULL ||
        add_type(module, &program_spec, &state->program_type) < 0 ||
        add_type(module, &struct_spec, &state->struct_type) < 0 ||
        add_type(module, &field_spec, &state->field_type) < 0 ||
        add_type(module, &messages_spec, &state->messages_type) < 0) {
        return -1;
    }
    return add_type(module, &unpacker_spec, &state->unpacker_type);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct state *state = PyModule_GetState(module);
    Py_VISIT(state->program_type);
    Py_VISIT(state->struct_type);
    Py_VISIT(state->field_type);
    Py_VISIT(state->unpacker_type);
    Py_VISIT(state->messages_type);
    Py_VISIT(state->generate);
    Py_VISIT(state->programs);
    Py_VISIT(state->types);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct state *state = PyModule_GetState(module);
    Py_CLEAR(state->program_type);
    Py_CLEAR(state->struct_type);
    Py_CLEAR(state->field_type);
    Py_CLEAR(state->unpacker_type);
    Py_CLEAR(state->messages_type);
    Py_CLEAR(state->generate);
    Py_CLEAR(state->programs);
    Py_CLEAR(state->types);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyMethodDef functions[] = {
    {"space", fields_space, METH_O, "space(names): as labsim.pure.structs.space."},
    {"settle", fields_settle, METH_O, "settle(cls): as labsim.pure.structs.settle."},
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
