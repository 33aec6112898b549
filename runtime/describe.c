/* Texts, names and dims: what a host asks about a model's description.
 *
 * Nothing here is specific to a model: the functions read the tables of smelt_model, so that the
 * compiled models stay small. Dims come from the host's own data, so each is checked before it is
 * believed; sizes are computed with overflow in mind. */
#include "smelt.h"

static const char *const status_texts[] = {
#define SMELT_STATUS(name, value, text) [value] = text,
#include "smelt_abi.def"
};

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
#define SMELT_DTYPE(name, value, bits, ctype) [value] = {#name, bits},
#include "smelt_abi.def"
};

const char *smelt_status_string(int status) {
    if (status < 0 || (size_t)status >= sizeof status_texts / sizeof *status_texts)
        return "unknown status";
    return status_texts[status];
}

const char *smelt_dtype_name(uint32_t dtype) {
    if (dtype >= sizeof dtypes / sizeof *dtypes || !dtypes[dtype].name) return "?";
    return dtypes[dtype].name;
}

uint32_t smelt_dtype_bits(uint32_t dtype) {
    if (dtype == SMELT_STRING) return (uint32_t)sizeof(smelt_string) * 8;
    return dtype < sizeof dtypes / sizeof *dtypes ? dtypes[dtype].bits : 0;
}

static int64_t dim_value(int64_t dim, const int64_t *symbols) {
    return dim >= 0 ? dim : symbols[-1 - dim];
}

uint64_t smelt_tensor_dims(const smelt_tensor_info *info, const int64_t *symbols, int64_t *dims) {
    uint64_t n = 1, bits = smelt_dtype_bits(info->dtype);
    int fits = 1, is_empty = 0;
    for (uint32_t i = 0; i < info->rank; i++) {
        int64_t d = dim_value(info->dims[i], symbols);
        if (dims) dims[i] = d;
        if (d == 0) is_empty = 1;
        if (d < 0 || (d > 0 && n > UINT64_MAX / 128 / (uint64_t)d)) {
            fits = 0;
        } else if (d > 0) {
            n *= (uint64_t)d;
        }
    }
    if (is_empty) return 0;
    return fits ? (n * bits + 7) / 8 : UINT64_MAX;
}

/* Takes the value of symbol k from the first input dim that is just it. Returns the index of that
 * input, or n_inputs if there is none. */
static uint32_t bind_symbol(const smelt_model *model, uint32_t k, const int64_t *const *dims,
                            int64_t *symbols) {
    for (uint32_t i = 0; i < model->n_inputs; i++) {
        const smelt_tensor_info *info = &model->inputs[i];
        for (uint32_t d = 0; d < info->rank; d++) {
            if (info->dims[d] != -1 - (int64_t)k) continue;
            symbols[k] = dims[i][d];
            return i;
        }
    }
    return model->n_inputs;
}

static int is_bound(const smelt_model *model, const int64_t *const *dims, uint32_t input,
                    const int64_t *symbols) {
    const smelt_tensor_info *info = &model->inputs[input];
    for (uint32_t d = 0; d < info->rank; d++)
        if (dims[input][d] != dim_value(info->dims[d], symbols)) return 0;
    return 1;
}

int smelt_bind_dims(const smelt_model *model, const int64_t *const *dims, int64_t *symbols,
                    uint32_t *bad_input) {
    uint32_t ignored;
    if (!bad_input) bad_input = &ignored;
    if (!model) return SMELT_BAD_CALL;
    *bad_input = model->n_inputs;
    if ((model->n_inputs && !dims) || (model->n_symbols && !symbols)) return SMELT_BAD_CALL;
    for (uint32_t i = 0; i < model->n_inputs; i++)
        if (model->inputs[i].rank && !dims[i]) return SMELT_BAD_CALL;

    for (uint32_t k = 0; k < model->n_symbols; k++) {
        const smelt_symbol *s = &model->symbols[k];
        if (s->kind != SMELT_SYMBOL_ARGUMENT) break;
        *bad_input = bind_symbol(model, k, dims, symbols);
        if (symbols[k] < s->min || symbols[k] > s->max) return SMELT_BAD_DIM;
    }
    *bad_input = model->n_inputs;
    if (model->symbols_for) {
        int status = model->symbols_for(symbols);
        if (status != SMELT_OK) return status;
    }
    for (uint32_t i = 0; i < model->n_inputs; i++) {
        if (is_bound(model, dims, i, symbols)) continue;
        *bad_input = i;
        return SMELT_BAD_DIM;
    }
    return SMELT_OK;
}
