/* Ranges of integer expressions: from a constant, a variable's bounds or the operands' ranges when
 * the node is made. */
#include "ir/kernel_internal.h"

static int64_t sat_add(int64_t a, int64_t b) {
    int64_t r;
    if (a == INT64_MIN || b == INT64_MIN) return INT64_MIN;
    if (a == INT64_MAX || b == INT64_MAX) return INT64_MAX;
    if (__builtin_add_overflow(a, b, &r)) return a > 0 ? INT64_MAX : INT64_MIN;
    return r;
}

int64_t kernel_sat_mul(int64_t a, int64_t b) {
    int64_t r;
    if (a == 0 || b == 0) return 0;
    if (a == INT64_MIN || a == INT64_MAX || b == INT64_MIN || b == INT64_MAX ||
        __builtin_mul_overflow(a, b, &r))
        return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
    return r;
}

int64_t kernel_floor_div(int64_t a, int64_t b) {
    if (b == 0) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a);
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t kernel_floor_mod(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

bool kernel_is_unbounded(int64_t v) {
    return v == INT64_MIN || v == INT64_MAX;
}

void kernel_dtype_range(DType t, int64_t *lo, int64_t *hi) {
    int bits = dtype_info[t].bits;
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    if (t == DT_BOOL) {
        *lo = 0;
        *hi = 1;
    } else if (dtype_info[t].kind == DK_UINT && bits < 64) {
        *lo = 0;
        *hi = (INT64_C(1) << bits) - 1;
    } else if (dtype_info[t].kind == DK_SINT && bits < 64) {
        *lo = -(INT64_C(1) << (bits - 1));
        *hi = (INT64_C(1) << (bits - 1)) - 1;
    }
}

static void mul_range(const KExpr *a, const KExpr *b, int64_t *lo, int64_t *hi) {
    int64_t p[4] = {kernel_sat_mul(a->lo, b->lo), kernel_sat_mul(a->lo, b->hi),
                    kernel_sat_mul(a->hi, b->lo), kernel_sat_mul(a->hi, b->hi)};
    *lo = *hi = p[0];
    for (int i = 1; i < 4; i++) {
        if (p[i] < *lo) *lo = p[i];
        if (p[i] > *hi) *hi = p[i];
    }
}

void kernel_set_range(KExpr *e) {
    kernel_dtype_range(e->dtype, &e->lo, &e->hi);
    const KExpr *a = e->n_args > 0 ? e->arg[0] : NULL, *b = e->n_args > 1 ? e->arg[1] : NULL;
    if (e->op == KO_const_i) {
        e->lo = e->hi = e->u.i;
    } else if (e->op == KO_var && e->dtype == DT_I64) {
        e->lo = e->u.var->lo;
        e->hi = e->u.var->hi;
    } else if (e->op == KO_cast && e->dtype == DT_I64 && dtype_is_int(a->dtype) &&
               a->dtype != DT_U64) {
        e->lo = a->lo;
        e->hi = a->hi;
    } else if (e->op == KO_cast && e->dtype == DT_I64 && a->dtype == DT_BOOL) {
        e->lo = 0;
        e->hi = 1;
    }
    int64_t c;
    if (e->op == KO_and && dtype_is_int(e->dtype) && k_is_int(b, &c) && c >= 0) {
        e->lo = 0;
        e->hi = c;
    }
    if (e->dtype != DT_I64 || !a) return;
    switch ((int)e->op) {
    case KO_str_len:
        e->lo = 0;
        e->hi = INT64_MAX; /* unknown */
        break;
    case KO_add:
        e->lo = sat_add(a->lo, b->lo);
        e->hi = sat_add(a->hi, b->hi);
        break;
    case KO_mul: mul_range(a, b, &e->lo, &e->hi); break;
    case KO_fdiv:
        if (k_is_int(b, &c) && c > 0) {
            e->lo = kernel_is_unbounded(a->lo) ? a->lo : kernel_floor_div(a->lo, c);
            e->hi = kernel_is_unbounded(a->hi) ? a->hi : kernel_floor_div(a->hi, c);
        } else if (a->lo >= 0 && b->lo >= 1) {
            e->lo = 0;
            e->hi = a->hi;
        }
        break;
    case KO_fmod:
        if (b->lo >= 1) {
            e->lo = 0;
            e->hi = kernel_is_unbounded(b->hi) ? b->hi : b->hi - 1;
            if (a->lo >= 0 && a->hi < e->hi) e->hi = a->hi;
        }
        break;
    case KO_min:
        e->lo = a->lo < b->lo ? a->lo : b->lo;
        e->hi = a->hi < b->hi ? a->hi : b->hi;
        break;
    case KO_max:
        e->lo = a->lo > b->lo ? a->lo : b->lo;
        e->hi = a->hi > b->hi ? a->hi : b->hi;
        break;
    case KO_select:
        e->lo = b->lo < e->arg[2]->lo ? b->lo : e->arg[2]->lo;
        e->hi = b->hi > e->arg[2]->hi ? b->hi : e->arg[2]->hi;
        break;
    default: break;
    }
}

void k_range(const KExpr *e, int64_t *lo, int64_t *hi) {
    *lo = e->lo;
    *hi = e->hi;
}
