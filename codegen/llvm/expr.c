/* Expressions of kernel IR as LLVM values.
 *
 * Every distinct node is emitted once in each scope that dominates its uses: the expressions are
 * hash-consed, so a table by node id is enough. Scopes are undone through a log when a loop or
 * branch closes. Values that read memory are forgotten after each statement, since the next one may
 * see other contents; LLVM merges those that are equal after all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/llvm_gen.h"

/* ---- types and small constants --------------------------------------------------------------- */

LLVMTypeRef llvm_type(LlvmGen *g, DType t) {
    switch (dtype_stored(t)) {
    case DT_F32:
    case DT_F16:
    case DT_BF16: return g->f32;
    case DT_F64: return g->f64;
    case DT_I8:
    case DT_U8: return g->i8;
    case DT_I16:
    case DT_U16: return g->i16;
    case DT_I32:
    case DT_U32: return g->i32;
    case DT_I64:
    case DT_U64: return g->i64;
    case DT_BOOL: return g->i1;
    case DT_STR: return g->text;
    default: break;
    }
    BUG("dtype %s has no LLVM type", dtype_info[t].name ? dtype_info[t].name : "none");
}

LLVMTypeRef llvm_mem_type(LlvmGen *g, DType t) {
    if (t == DT_F16 || t == DT_BF16) return g->i16;
    return t == DT_BOOL ? g->i8 : llvm_type(g, t);
}

LLVMTypeRef llvm_widen(LLVMTypeRef t, unsigned lanes) {
    return lanes ? LLVMVectorType(t, lanes) : t;
}

unsigned llvm_lanes(LLVMValueRef v) {
    LLVMTypeRef t = LLVMTypeOf(v);
    return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 0;
}

LLVMValueRef llvm_splat(LlvmGen *g, LLVMValueRef v, unsigned lanes) {
    if (!lanes || llvm_lanes(v)) return v;
    LLVMTypeRef t = LLVMVectorType(LLVMTypeOf(v), lanes);
    if (LLVMIsConstant(v)) {
        LLVMValueRef *each = xmalloc(sizeof *each * lanes);
        for (unsigned i = 0; i < lanes; i++) each[i] = v;
        LLVMValueRef all = LLVMConstVector(each, lanes);
        free(each);
        return all;
    }
    LLVMValueRef one =
        LLVMBuildInsertElement(g->b, LLVMGetPoison(t), v, LLVMConstInt(g->i64, 0, 0), "");
    return LLVMBuildShuffleVector(g->b, one, LLVMGetPoison(t),
                                  LLVMConstNull(LLVMVectorType(g->i32, lanes)), "");
}

LLVMValueRef llvm_int(LlvmGen *g, LLVMTypeRef scalar, unsigned lanes, int64_t v) {
    return llvm_splat(g, LLVMConstInt(scalar, (unsigned long long)v, 1), lanes);
}

LLVMValueRef llvm_real(LlvmGen *g, LLVMTypeRef scalar, unsigned lanes, double v) {
    return llvm_splat(g, LLVMConstReal(scalar, v), lanes);
}

LLVMValueRef llvm_iota(LlvmGen *g, unsigned lanes) {
    LLVMValueRef *each = xmalloc(sizeof *each * lanes);
    for (unsigned i = 0; i < lanes; i++) each[i] = LLVMConstInt(g->i64, i, 0);
    LLVMValueRef all = LLVMConstVector(each, lanes);
    free(each);
    return all;
}

LLVMValueRef llvm_call(LlvmGen *g, const char *intrinsic, LLVMTypeRef *types, unsigned n_types,
                       LLVMValueRef *args, unsigned n_args) {
    unsigned id = LLVMLookupIntrinsicID(intrinsic, strlen(intrinsic));
    BUG_IF(!id, "LLVM has no intrinsic %s", intrinsic);
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(g->mod, id, types, n_types);
    return LLVMBuildCall2(g->b, LLVMIntrinsicGetType(g->ctx, id, types, n_types), fn, args, n_args,
                          "");
}

LLVMValueRef llvm_overloaded(LlvmGen *g, const char *intrinsic, LLVMValueRef a) {
    LLVMTypeRef t = LLVMTypeOf(a);
    return llvm_call(g, intrinsic, &t, 1, &a, 1);
}

/* ---- variables, buffers, memo ---------------------------------------------------------------- */

static void grow(void **at, uint32_t *n, uint32_t id, size_t item_bytes) {
    if (id < *n) return;
    uint32_t more = id + 64 + id / 2;
    *at = xrealloc(*at, more * item_bytes);
    memset((char *)*at + *n * item_bytes, 0, (more - *n) * item_bytes);
    *n = more;
}

VarBind *llvm_var(LlvmGen *g, const KVar *v) {
    LlvmFn *fn = g->fn;
    grow((void **)&fn->var, &fn->n_var, v->id, sizeof *fn->var);
    return &fn->var[v->id];
}

BufBind *llvm_buf(LlvmGen *g, const KBuf *b) {
    LlvmFn *fn = g->fn;
    grow((void **)&fn->buf, &fn->n_buf, b->id, sizeof *fn->buf);
    return &fn->buf[b->id];
}

uint32_t llvm_memo_mark(LlvmGen *g) {
    return g->fn->n_log;
}

void llvm_memo_undo(LlvmGen *g, uint32_t mark) {
    LlvmFn *fn = g->fn;
    while (fn->n_log > mark) fn->memo[fn->log[--fn->n_log]].v = NULL;
}

void llvm_memo_drop_loads(LlvmGen *g, uint32_t mark) {
    LlvmFn *fn = g->fn;
    uint32_t n = mark;
    for (uint32_t i = mark; i < fn->n_log; i++) {
        Memo *m = &fn->memo[fn->log[i]];
        if (m->loads)
            m->v = NULL;
        else
            fn->log[n++] = fn->log[i];
    }
    fn->n_log = n;
}

MemoAside llvm_memo_aside(LlvmGen *g) {
    MemoAside aside = {g->fn->memo, g->fn->n_memo, g->fn->n_log};
    g->fn->memo = NULL;
    g->fn->n_memo = 0;
    return aside;
}

void llvm_memo_back(LlvmGen *g, MemoAside aside) {
    free(g->fn->memo);
    g->fn->memo = aside.memo;
    g->fn->n_memo = aside.n_memo;
    g->fn->n_log = aside.mark;
}

static Memo *memo_of(LlvmFn *fn, const KExpr *e) {
    grow((void **)&fn->memo, &fn->n_memo, e->id, sizeof *fn->memo);
    return &fn->memo[e->id];
}

static void memo_put(LlvmFn *fn, const KExpr *e, Memo m) {
    *memo_of(fn, e) = m;
    grow((void **)&fn->log, &fn->cap_log, fn->n_log, sizeof *fn->log);
    fn->log[fn->n_log++] = e->id;
}

bool llvm_known_int(LlvmGen *g, const KExpr *e, int64_t *v) {
    int64_t a, b;
    if (e->op == KO_const_i) return *v = e->u.i, true;
    if (e->op == KO_var) {
        LLVMValueRef at = llvm_var(g, e->u.var)->v;
        if (!at || !LLVMIsAConstantInt(at)) return false;
        return *v = LLVMConstIntGetSExtValue(at), true;
    }
    if (e->op != KO_add && e->op != KO_sub && e->op != KO_mul) return false;
    if (!llvm_known_int(g, e->arg[0], &a) || !llvm_known_int(g, e->arg[1], &b)) return false;
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    *v = (int64_t)(e->op == KO_add ? x + y : e->op == KO_sub ? x - y : x * y);
    return true;
}

/* Walks the nodes once each: `seen` holds what was found not to vary. */
typedef struct Varies {
    LlvmGen *g;
    const KExpr **seen;
    uint32_t n, cap;
} Varies;

static bool varies(Varies *w, const KExpr *e) {
    if (e->op == KO_var) {
        return e->u.var == w->g->fn->lane_var || llvm_var(w->g, e->u.var)->varying;
    }
    if (!e->n_args) return false;
    if (!w->g->fn->any_per_lane && !(e->var_mask & w->g->fn->varying_vars)) return false;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->seen[i] == e) return false;
    if (e->op == KO_load && llvm_buf(w->g, e->u.buf)->per_lane) return true;
    for (int i = 0; i < e->n_args; i++)
        if (varies(w, e->arg[i])) return true;
    grow((void **)&w->seen, &w->cap, w->n, sizeof *w->seen);
    w->seen[w->n++] = e;
    return false;
}

bool llvm_varies(LlvmGen *g, const KExpr *e) {
    Varies w = {.g = g};
    bool yes = varies(&w, e);
    free((void *)w.seen);
    return yes;
}

/* ---- operations ------------------------------------------------------------------------------ */

static LLVMValueRef emit_const_f(LlvmGen *g, DType t, double v) {
    LLVMTypeRef lt = llvm_type(g, t);
    if (!isnan(v)) return LLVMConstReal(lt, v);
    /* One NaN for every host: quiet, positive, no payload. */
    return t == DT_F64 ? LLVMConstBitCast(LLVMConstInt(g->i64, UINT64_C(0x7ff8000000000000), 0), lt)
                       : LLVMConstBitCast(LLVMConstInt(g->i32, 0x7fc00000u, 0), lt);
}

static LLVMValueRef emit_var(LlvmGen *g, const KVar *v, int *depth, bool *loads) {
    LlvmFn *fn = g->fn;
    if (v->kind == KV_SYMBOL && v->computed && fn->size_table) {
        LLVMValueRef slot = LLVMConstInt(g->i64, v->slot, 0);
        LLVMValueRef at = LLVMBuildGEP2(g->b, g->i64, fn->size_table, &slot, 1, "");
        *depth = fn->depth;
        *loads = true;
        return LLVMBuildLoad2(g->b, g->i64, at, v->name);
    }
    VarBind *bind = llvm_var(g, v);
    BUG_IF(!bind->v, "variable %s_%u is used before it has a value", v->name, v->id);
    *depth = bind->depth;
    return bind->v;
}

static LLVMValueRef emit_compare(LlvmGen *g, KOp op, DType t, LLVMValueRef a, LLVMValueRef b) {
    bool is_signed = dtype_is_signed(t);
    if (dtype_is_float(t)) {
        LLVMRealPredicate p = op == KO_eq   ? LLVMRealOEQ
                              : op == KO_ne ? LLVMRealUNE
                              : op == KO_lt ? LLVMRealOLT
                                            : LLVMRealOLE;
        return LLVMBuildFCmp(g->b, p, a, b, "");
    }
    LLVMIntPredicate p = op == KO_eq   ? LLVMIntEQ
                         : op == KO_ne ? LLVMIntNE
                         : op == KO_lt ? (is_signed ? LLVMIntSLT : LLVMIntULT)
                                       : (is_signed ? LLVMIntSLE : LLVMIntULE);
    return LLVMBuildICmp(g->b, p, a, b, "");
}

/* a < b ? a : b, or a > b ? a : b. */
static LLVMValueRef emit_min_max(LlvmGen *g, KOp op, DType t, LLVMValueRef a, LLVMValueRef b) {
    bool is_min = op == KO_min, is_signed = dtype_is_signed(t);
    LLVMValueRef c;
    if (dtype_is_float(t))
        c = LLVMBuildFCmp(g->b, is_min ? LLVMRealOLT : LLVMRealOGT, a, b, "");
    else if (is_signed)
        c = LLVMBuildICmp(g->b, is_min ? LLVMIntSLT : LLVMIntSGT, a, b, "");
    else
        c = LLVMBuildICmp(g->b, is_min ? LLVMIntULT : LLVMIntUGT, a, b, "");
    return LLVMBuildSelect(g->b, c, a, b, "");
}

static LLVMValueRef emit_shift(LlvmGen *g, KOp op, DType t, LLVMValueRef a, LLVMValueRef b) {
    unsigned lanes = llvm_lanes(a);
    LLVMTypeRef scalar = llvm_type(g, t);
    int width = dtype_info[t].bits;
    bool is_signed = dtype_is_signed(t);
    LLVMValueRef fits = LLVMBuildICmp(g->b, LLVMIntULT, b, llvm_int(g, scalar, lanes, width), "");
    LLVMValueRef most = llvm_int(g, scalar, lanes, op == KO_shr && is_signed ? width - 1 : 0);
    LLVMValueRef by = LLVMBuildSelect(g->b, fits, b, most, "");
    if (op == KO_shr && is_signed) return LLVMBuildAShr(g->b, a, by, "");
    LLVMValueRef r = op == KO_shl ? LLVMBuildShl(g->b, a, by, "") : LLVMBuildLShr(g->b, a, by, "");
    return LLVMBuildSelect(g->b, fits, r, LLVMConstNull(LLVMTypeOf(a)), "");
}

static LLVMValueRef emit_arith(LlvmGen *g, KOp op, DType t, LLVMValueRef a, LLVMValueRef b) {
    bool f = dtype_is_float(t);
    if (op == KO_add) return f ? LLVMBuildFAdd(g->b, a, b, "") : LLVMBuildAdd(g->b, a, b, "");
    if (op == KO_sub) return f ? LLVMBuildFSub(g->b, a, b, "") : LLVMBuildSub(g->b, a, b, "");
    return f ? LLVMBuildFMul(g->b, a, b, "") : LLVMBuildMul(g->b, a, b, "");
}

static LLVMValueRef emit_abs(LlvmGen *g, DType t, LLVMValueRef a) {
    if (dtype_is_float(t)) return llvm_overloaded(g, "llvm.fabs", a);
    if (!dtype_is_signed(t)) return a;
    LLVMValueRef negative = LLVMBuildICmp(g->b, LLVMIntSLT, a, LLVMConstNull(LLVMTypeOf(a)), "");
    return LLVMBuildSelect(g->b, negative, LLVMBuildNeg(g->b, a, ""), a, "");
}

/* Rounds the f32 that carries a 16-bit float; every other dtype is as wide as its carrier. */
static LLVMValueRef narrow(LlvmGen *g, DType t, LLVMValueRef v) {
    return t == DT_F16 || t == DT_BF16 ? llvm_round_to(g, t, v) : v;
}

/* Strings are pairs of an address and a size_t. */
static LLVMValueRef emit_string(LlvmGen *g, LLVMValueRef bytes, LLVMValueRef n_bytes) {
    LLVMValueRef s = LLVMBuildInsertValue(g->b, LLVMGetPoison(g->text), bytes, 0, "");
    n_bytes = LLVMBuildTruncOrBitCast(g->b, n_bytes, g->size, "");
    return LLVMBuildInsertValue(g->b, s, n_bytes, 1, "");
}

static LLVMValueRef string_len(LlvmGen *g, LLVMValueRef s) {
    LLVMValueRef n = LLVMBuildExtractValue(g->b, s, 1, "");
    return LLVMBuildZExtOrBitCast(g->b, n, g->i64, "");
}

static LLVMValueRef byte_ptr(LlvmGen *g, LLVMValueRef s, LLVMValueRef at) {
    LLVMValueRef bytes = LLVMBuildExtractValue(g->b, s, 0, "");
    return LLVMBuildGEP2(g->b, g->i8, bytes, &at, 1, "");
}

static LLVMValueRef emit_text(LlvmGen *g, const KExpr *e, LLVMValueRef *a) {
    if (e->op == KO_str_len) return string_len(g, a[0]);
    if (e->op == KO_str_of) return emit_string(g, a[0], a[1]);
    if (e->op == KO_str_sub) return emit_string(g, byte_ptr(g, a[0], a[1]), a[2]);
    LLVMValueRef inside = LLVMBuildICmp(g->b, LLVMIntULT, a[1], string_len(g, a[0]), "");
    LLVMValueRef ptr = LLVMBuildSelect(g->b, inside, byte_ptr(g, a[0], a[1]), llvm_nowhere(g), "");
    LLVMValueRef v = LLVMBuildLoad2(g->b, g->i8, ptr, "");
    return LLVMBuildSelect(g->b, inside, v, LLVMConstNull(g->i8), "");
}

/* a[0..n-1] are the operands, all scalars or all of the same number of lanes. */
static LLVMValueRef emit_op(LlvmGen *g, const KExpr *e, LLVMValueRef *a) {
    DType t = e->dtype, from = e->n_args ? e->arg[0]->dtype : t;
    switch (e->op) {
    case KO_add:
    case KO_sub:
    case KO_mul: return narrow(g, t, emit_arith(g, e->op, t, a[0], a[1]));
    case KO_div:
    case KO_rem:
    case KO_fdiv:
    case KO_fmod: return narrow(g, t, llvm_divide(g, e, a[0], a[1]));
    case KO_min:
    case KO_max: return emit_min_max(g, e->op, t, a[0], a[1]);
    case KO_neg:
        return dtype_is_float(t) ? LLVMBuildFNeg(g->b, a[0], "") : LLVMBuildNeg(g->b, a[0], "");
    case KO_abs: return emit_abs(g, t, a[0]);
    case KO_fma: return narrow(g, t, llvm_fused(g, a[0], a[1], a[2]));
    case KO_sqrt: return narrow(g, t, llvm_overloaded(g, "llvm.sqrt", a[0]));
    case KO_ldexp: return llvm_ldexp(g, a[0], a[1]);
    case KO_floor:
    case KO_ceil:
    case KO_trunc:
    case KO_rint: return dtype_is_float(t) ? llvm_round(g, e->op, a[0]) : a[0];
    case KO_and: return LLVMBuildAnd(g->b, a[0], a[1], "");
    case KO_or: return LLVMBuildOr(g->b, a[0], a[1], "");
    case KO_xor: return LLVMBuildXor(g->b, a[0], a[1], "");
    case KO_not: return LLVMBuildNot(g->b, a[0], "");
    case KO_shl:
    case KO_shr: return emit_shift(g, e->op, t, a[0], a[1]);
    case KO_eq:
    case KO_ne:
    case KO_lt:
    case KO_le: return emit_compare(g, e->op, from, a[0], a[1]);
    case KO_select: return LLVMBuildSelect(g->b, a[0], a[1], a[2], "");
    case KO_cast: return llvm_cast(g, t, from, a[0]);
    case KO_bitcast: return llvm_bitcast(g, t, from, a[0]);
    case KO_root16: return llvm_root16(g, a[0]);
    case KO_dot4_us:
    case KO_dot4_ss:
    case KO_dot2_ss:
    case KO_dot2_bf: return llvm_dot(g, e->op, a[0], a[1], a[2]);
    case KO_str_len:
    case KO_str_byte:
    case KO_str_sub:
    case KO_str_of: return emit_text(g, e, a);
    case KO_const_i:
        if (t == DT_STR) return LLVMConstNull(g->text);
        return LLVMConstInt(llvm_type(g, t), (unsigned long long)e->u.i, 1);
    case KO_const_f: return emit_const_f(g, t, e->u.f);
    case KO_NONE:
    case KO_COUNT:
    case KO_var:
    case KO_load:
    case KO_at:
    case KO_re:
    case KO_im:
    case KO_complex:
    case KO_exp:
    case KO_exp_neg:
    case KO_exp2:
    case KO_log:
    case KO_pow:
    case KO_tanh:
    case KO_sinh:
    case KO_cosh:
    case KO_erf:
    case KO_sigmoid:
    case KO_softplus:
    case KO_gelu:
    case KO_rsigmoid:
    case KO_normal:
    case KO_log1p:
    case KO_expm1:
    case KO_sin:
    case KO_cos:
    case KO_tan:
    case KO_asin:
    case KO_acos:
    case KO_atan:
    case KO_asinh:
    case KO_acosh:
    case KO_atanh: break;
    }
    BUG("the LLVM renderer got '%s', which should be gone by now", kop_info[e->op].name);
}

/* Operands that differ by lane make the others splats; the condition of a select may stay scalar.
 */
static void widen_operands(LlvmGen *g, const KExpr *e, LLVMValueRef *a) {
    unsigned lanes = 0;
    for (int i = 0; i < e->n_args; i++)
        if (llvm_lanes(a[i])) lanes = llvm_lanes(a[i]);
    for (int i = 0; i < e->n_args && lanes; i++) {
        if (e->op == KO_select && i == 0) continue;
        a[i] = llvm_splat(g, a[i], lanes);
    }
}

static Memo emit_node(LlvmGen *g, const KExpr *e);

static Memo value_of(LlvmGen *g, const KExpr *e) {
    LlvmFn *fn = g->fn;
    Memo m = *memo_of(fn, e);
    if (m.v) return m;
    if (e->op == KO_const_i || e->op == KO_const_f) return (Memo){.v = emit_op(g, e, NULL)};
    if (e->op == KO_var) {
        m = (Memo){0};
        m.v = emit_var(g, e->u.var, &m.depth, &m.loads);
        return m;
    }
    m = emit_node(g, e);
    memo_put(fn, e, m);
    return m;
}

/* f32(x & 15), perhaps less a constant, in 16 lanes: a permutation of the 16 numbers it can be,
 * which looks at the low 4 bits of an index only. Returns x, and the constant. */
static const KExpr *code_of(LlvmGen *g, const KExpr *e, double *less) {
    *less = 0;
    if (g->fn->lanes != 16 || !g->cpu.avx512 || e->dtype != DT_F32) return NULL;
    if (e->op == KO_sub && e->arg[1]->op == KO_const_f) {
        *less = e->arg[1]->u.f;
        e = e->arg[0];
    }
    if (e->op != KO_cast || e->arg[0]->op != KO_and || e->arg[0]->dtype != DT_I32) return NULL;
    return k_is_value(e->arg[0]->arg[1], 15) ? e->arg[0]->arg[0] : NULL;
}

static LLVMValueRef look_up_code(LlvmGen *g, LLVMValueRef x, double less) {
    enum { N = 16 };
    LLVMValueRef level[N];
    for (int i = 0; i < N; i++)
        level[i] = emit_const_f(g, DT_F32, (double)((float)i - (float)less));
    LLVMValueRef args[] = {LLVMConstVector(level, N), llvm_splat(g, x, N)};
    return llvm_call(g, "llvm.x86.avx512.permvar.sf.512", NULL, 0, args, 2);
}

/* i32(b[i]) and i32(b[i] >> 32) in 16 lanes of i64: the even or the odd words of two vectors, which
 * is one permutation, while a conversion takes four operations. Returns b[i]. */
static const KExpr *half_of(LlvmGen *g, const KExpr *e, unsigned *odd) {
    if (g->fn->lanes != 16 || !g->cpu.avx512 || e->op != KO_cast || e->dtype != DT_I32) return NULL;
    e = e->arg[0];
    *odd = e->op == KO_shr && k_is_value(e->arg[1], 32);
    if (*odd) e = e->arg[0];
    return e->op == KO_load && e->dtype == DT_I64 ? e : NULL;
}

static LLVMValueRef every_second_word(LlvmGen *g, LLVMValueRef v, unsigned odd) {
    enum { N = 16 };
    LLVMValueRef at[N], half[2];
    for (unsigned h = 0; h < 2; h++) { /* apart, since LLVM makes a conversion of a single vector */
        for (unsigned i = 0; i < N / 2; i++) at[i] = LLVMConstInt(g->i32, h * N / 2 + i, 0);
        half[h] = LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)),
                                         LLVMConstVector(at, N / 2), "");
        half[h] = LLVMBuildBitCast(g->b, half[h], LLVMVectorType(g->i32, N), "");
    }
    for (unsigned i = 0; i < N; i++) at[i] = LLVMConstInt(g->i32, 2 * i + odd, 0);
    return LLVMBuildShuffleVector(g->b, half[0], half[1], LLVMConstVector(at, N), "");
}

/* ---- selections ------------------------------------------------------------------------------- */

static bool has_value(const KExpr *e, void *g) {
    return memo_of(((LlvmGen *)g)->fn, e)->v;
}

/* c ? a : other where `wanted` says which lanes want a, which is long: a branch around it. */
static LLVMValueRef select_long(LlvmGen *g, LLVMValueRef wanted, const KExpr *a, Memo *other) {
    LLVMValueRef any = wanted;
    if (llvm_lanes(wanted)) any = llvm_overloaded(g, "llvm.vector.reduce.or", wanted);
    LLVMBasicBlockRef wants = llvm_new_block(g, "wanted"), joined = llvm_new_block(g, "joined");
    LLVMBasicBlockRef from = LLVMGetInsertBlock(g->b);
    unsigned lanes = llvm_varies(g, a) || llvm_lanes(wanted) ? (unsigned)g->fn->lanes : 0;
    if (llvm_lanes(other->v)) lanes = llvm_lanes(other->v);
    LLVMValueRef b = llvm_splat(g, other->v, lanes);
    LLVMBuildCondBr(g->b, any, wants, joined);
    LLVMPositionBuilderAtEnd(g->b, wants);
    uint32_t mark = llvm_memo_mark(g);
    Memo m = value_of(g, a);
    llvm_memo_undo(g, mark);
    LLVMValueRef v = LLVMBuildSelect(g->b, wanted, llvm_splat(g, m.v, lanes), b, "");
    other->loads |= m.loads;
    if (m.depth > other->depth) other->depth = m.depth;
    LLVMBasicBlockRef end = LLVMGetInsertBlock(g->b);
    LLVMBuildBr(g->b, joined);
    LLVMPositionBuilderAtEnd(g->b, joined);
    LLVMValueRef phi = LLVMBuildPhi(g->b, LLVMTypeOf(b), "");
    LLVMAddIncoming(phi, &b, &from, 1);
    LLVMAddIncoming(phi, &v, &end, 1);
    return phi;
}

static Memo emit_branch(LlvmGen *g, const KExpr *e, int around) {
    Memo c = value_of(g, e->arg[0]), other = value_of(g, e->arg[3 - around]);
    other.loads |= c.loads;
    if (c.depth > other.depth) other.depth = c.depth;
    LLVMValueRef wanted = around == 1 ? c.v : LLVMBuildNot(g->b, c.v, "");
    other.v = select_long(g, wanted, e->arg[around], &other);
    return other;
}

static Memo emit_node(LlvmGen *g, const KExpr *e) {
    Memo m = {0};
    double less;
    int around = k_long_operand(e, has_value, g);
    if (around) return emit_branch(g, e, around);
    const KExpr *code = code_of(g, e, &less);
    if (code && llvm_varies(g, code)) {
        m = value_of(g, code);
        m.v = look_up_code(g, m.v, less);
        return m;
    }
    unsigned odd;
    const KExpr *both = half_of(g, e, &odd);
    if (both && llvm_varies(g, both)) {
        m = value_of(g, both);
        m.v = every_second_word(g, llvm_splat(g, m.v, 16), odd);
        return m;
    }
    if (e->op == KO_load) {
        m.loads = true;
        m.v = llvm_load(g, e, &m.depth);
        return m;
    }
    if (g->fn->lanes && llvm_varies(g, e) && (m.v = llvm_compare_lanes(g, e, &m.depth))) {
        m.loads = true; /* perhaps */
        return m;
    }
    LLVMValueRef a[3], word = e->op == KO_or && e->dtype == DT_I32 ? llvm_byte_word(g, e) : NULL;
    if (word) return (Memo){.v = word, .depth = g->fn->depth, .loads = true};
    BUG_IF(e->n_args > 3, "'%s' with %d operands", kop_info[e->op].name, e->n_args);
    if (e->op == KO_str_byte) m.loads = true;
    for (int i = 0; i < e->n_args; i++) {
        bool is_place = e->op == KO_str_of && i == 0;
        Memo x = {0};
        if (is_place)
            x = (Memo){.v = llvm_address(g, e->arg[0], &x.depth), .depth = x.depth, .loads = true};
        else
            x = value_of(g, e->arg[i]);
        a[i] = x.v;
        m.loads |= x.loads;
        if (x.depth > m.depth) m.depth = x.depth;
    }
    widen_operands(g, e, a);
    m.v = emit_op(g, e, a);
    return m;
}

LLVMValueRef llvm_expr(LlvmGen *g, const KExpr *e) {
    return value_of(g, e).v;
}

LLVMValueRef llvm_expr_depth(LlvmGen *g, const KExpr *e, int *depth) {
    Memo m = value_of(g, e);
    *depth = m.depth;
    return m.v;
}
