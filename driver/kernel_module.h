/* One kernel as a model of its own: the buffers that it reads are inputs, those it writes
 * outputs. */
#ifndef SMELT_DRIVER_KERNEL_MODULE_H
#define SMELT_DRIVER_KERNEL_MODULE_H

#include "driver/driver.h"
#include "smelt.h"

/* The module, in a, for code generation; n_elems: elements of each parameter. */
KModule *kernel_module(Session *s, Arena *a, Kernel *kn, const int64_t *n_elems);
/* Runs its compiled form on these buffers, one for each parameter; false when it refused. */
bool kernel_module_run(const smelt_model *model, const Kernel *kn, void *const *bufs);

#endif
