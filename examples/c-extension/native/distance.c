/* How many letters have to change to make one text of another. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static Py_ssize_t least(Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) {
    Py_ssize_t smaller = a < b ? a : b;
    return smaller < c ? smaller : c;
}

static PyObject *distance(PyObject *self, PyObject *args) {
    PyObject *left, *right;
    if (!PyArg_ParseTuple(args, "UU", &left, &right)) return NULL;
    Py_ssize_t width = PyUnicode_GET_LENGTH(right) + 1;
    Py_ssize_t *row = PyMem_New(Py_ssize_t, width);
    if (row == NULL) return PyErr_NoMemory();
    for (Py_ssize_t j = 0; j < width; j++) row[j] = j;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(left); i++) {
        Py_ssize_t diagonal = row[0];
        row[0] = i + 1;
        for (Py_ssize_t j = 1; j < width; j++) {
            int same = PyUnicode_READ_CHAR(left, i) == PyUnicode_READ_CHAR(right, j - 1);
            Py_ssize_t next = least(row[j] + 1, row[j - 1] + 1, diagonal + !same);
            diagonal = row[j];
            row[j] = next;
        }
    }
    Py_ssize_t result = row[width - 1];
    PyMem_Free(row);
    return PyLong_FromSsize_t(result);
}

static PyMethodDef methods[] = {{"distance", distance, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "editdistance_native", NULL, -1, methods};

PyMODINIT_FUNC PyInit_editdistance_native(void) { return PyModule_Create(&module); }
