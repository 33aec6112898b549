/* A generic call of the model `net`, for tests that bring its inputs, outputs, symbols and
 * arena. */
#ifndef NET_CALL_H
#define NET_CALL_H

#include "net.h"
#include "smelt.h"

/* All of net_model's tensors and symbols; everything that is passed has to outlive the call. */
static inline smelt_call net_call(const void *const *inputs, void **outputs, int64_t *symbols,
                                  void *arena, uint64_t n_bytes, const smelt_hooks *hooks)
{
    return (smelt_call){.struct_size = sizeof(smelt_call),
                        .n_inputs = net_model.n_inputs,
                        .n_outputs = net_model.n_outputs,
                        .n_symbols = net_model.n_symbols,
                        .inputs = inputs,
                        .outputs = outputs,
                        .symbols = symbols,
                        .arena = arena,
                        .arena_bytes = (size_t)n_bytes,
                        .hooks = hooks};
}

#endif
