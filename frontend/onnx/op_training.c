/* Importers of ai.onnx.preview.training's optimizers: one step of each, as arithmetic.
 *
 * Inputs are R (learning rate), T (number of steps done), then groups of equal length: the tensors
 * X, their gradients G and one or two kinds of state; outputs the new X and the new states. With
 * g = norm_coefficient * X + G:
 *
 *   Adagrad    H' = H + g^2                      X' = X - r g / (sqrt(H') + epsilon)
 *   Momentum   V' = alpha V + b g                X' = X - R V'        (nesterov: R (g + alpha V'))
 *   Adam       V' = alpha V + (1 - alpha) g      X' = (1 - norm_coefficient_post)
 *              H' = beta H + (1 - beta) g^2           * (X - r V' / (sqrt(H') + epsilon))
 *
 * r = R / (1 + T decay_factor) for Adagrad, R sqrt(1 - beta^T) / (1 - alpha^T) for Adam where T >
 * 0; b = T > 0 ? beta : 1. What is made of R and T alone is computed in f64 and rounded once. */
#include <string.h>

#include "frontend/onnx/import.h"

enum { MAX_STATES_OF_X = 2 };

/* One step's parts: what it is given and where the new values go. */
typedef struct Step {
    Call *c;
    DType t;      /* of the tensor */
    Value *rate;  /* R, then r, in f64 and of rank 0 */
    Value *steps; /* T in f64, of rank 0 */
    Value *x, *g, *state[MAX_STATES_OF_X];
} Step;

static Value *binary(const Step *s, OpId op, Value *a, Value *b) {
    return call_op(s->c, op, 2, a, b);
}

/* by * v, by an attribute */
static Value *times(const Step *s, double by, Value *v) {
    return by == 1 ? v : binary(s, OP_Mul, call_scalar(s->c, v->dtype, by), v);
}

static Value *scalar_f64(Call *c, Value *v) {
    return call_op(c, OP_Reshape, 2, call_cast(c, v, DT_F64), call_list(c, NULL, 0));
}

/* G, with the gradient of the norm of X when that is asked for. */
static Value *regularized(const Step *s) {
    double norm = call_float(s->c, "norm_coefficient", 0);
    return norm == 0 ? s->g : binary(s, OP_Add, times(s, norm, s->x), s->g);
}

/* v / (sqrt(h) + epsilon) */
static Value *over_root(const Step *s, Value *v, Value *h) {
    Value *epsilon = call_scalar(s->c, s->t, call_float(s->c, "epsilon", (double)1e-6f));
    return binary(s, OP_Div, v, binary(s, OP_Add, call_op(s->c, OP_Sqrt, 1, h), epsilon));
}

static Value *square(const Step *s, Value *v) {
    return binary(s, OP_Mul, v, v);
}

/* x - rate * direction */
static Value *moved(const Step *s, Value *rate, Value *direction) {
    return binary(s, OP_Sub, s->x, binary(s, OP_Mul, call_cast(s->c, rate, s->t), direction));
}

static Value *one_f64(const Step *s) {
    return call_scalar(s->c, DT_F64, 1);
}

static Value *has_steps(const Step *s) {
    return binary(s, OP_Greater, s->steps, call_scalar(s->c, DT_F64, 0));
}

static void adagrad(Step *s, Value **out) {
    double decay = call_float(s->c, "decay_factor", 0);
    Value *g = regularized(s), *rate = s->rate;
    if (decay != 0) {
        Value *slower = binary(s, OP_Add, one_f64(s), times(s, decay, s->steps));
        rate = binary(s, OP_Div, rate, slower);
    }
    out[1] = binary(s, OP_Add, s->state[0], square(s, g));
    out[0] = moved(s, rate, over_root(s, g, out[1]));
}

static void momentum(Step *s, Value **out) {
    double alpha = call_float(s->c, "alpha", 0), beta = call_float(s->c, "beta", 0);
    Value *g = regularized(s), *scale = call_scalar(s->c, DT_F64, beta);
    scale = call_op(s->c, OP_Where, 3, has_steps(s), scale, one_f64(s));
    Value *scaled = binary(s, OP_Mul, call_cast(s->c, scale, s->t), g);
    out[1] = binary(s, OP_Add, times(s, alpha, s->state[0]), scaled);
    Value *direction = out[1];
    if (!strcmp(call_string(s->c, "mode", ""), "nesterov"))
        direction = binary(s, OP_Add, g, times(s, alpha, out[1]));
    out[0] = moved(s, s->rate, direction);
}

/* 1 - base^T */
static Value *one_minus_power(const Step *s, double base) {
    Value *power = binary(s, OP_Pow, call_scalar(s->c, DT_F64, base), s->steps);
    return binary(s, OP_Sub, one_f64(s), power);
}

static void adam(Step *s, Value **out) {
    double alpha = call_float(s->c, "alpha", (double)0.9f);
    double beta = call_float(s->c, "beta", (double)0.999f);
    double norm_post = call_float(s->c, "norm_coefficient_post", 0);
    Value *g = regularized(s);
    out[1] = binary(s, OP_Add, times(s, alpha, s->state[0]), times(s, 1 - alpha, g));
    out[2] = binary(s, OP_Add, times(s, beta, s->state[1]), times(s, 1 - beta, square(s, g)));
    Value *root = call_op(s->c, OP_Sqrt, 1, one_minus_power(s, beta));
    Value *rate = binary(s, OP_Mul, s->rate, binary(s, OP_Div, root, one_minus_power(s, alpha)));
    rate = call_op(s->c, OP_Where, 3, has_steps(s), rate, s->rate);
    out[0] = times(s, 1 - norm_post, moved(s, rate, over_root(s, out[1], out[2])));
}

/* Takes each tensor with its gradient and states out of the groups. */
static bool run_steps(Call *c, int n_states, void (*step)(Step *s, Value **out)) {
    int n_groups = 2 + n_states, n = (c->n_in - 2) / n_groups;
    if (n < 1 || c->n_in != 2 + n * n_groups || c->n_out > n * (1 + n_states)) {
        diag_error(c->im->d, c->loc,
                   "has %d inputs and %d outputs, which is no number of tensors "
                   "with their gradients and states",
                   c->n_in, c->n_out);
        return false;
    }
    Step s = {.c = c, .rate = scalar_f64(c, c->in[0]), .steps = scalar_f64(c, c->in[1])};
    for (int i = 0; i < n; i++) {
        Value **x = c->in + 2 + i, *out[1 + MAX_STATES_OF_X];
        for (int j = 0; j < n_groups; j++)
            if (!x[j * n]) {
                diag_error(c->im->d, c->loc, "input %d is missing", 2 + i + j * n);
                return false;
            }
        s.x = x[0], s.g = x[n], s.t = call_float_type(s.x);
        for (int j = 0; j < n_states; j++) s.state[j] = x[(2 + j) * n];
        step(&s, out);
        for (int j = 0; j <= n_states; j++)
            if (i + j * n < c->n_out) c->out[i + j * n] = out[j];
    }
    return true;
}

bool import_adagrad(Call *c) {
    return run_steps(c, 1, adagrad);
}

bool import_adam(Call *c) {
    return run_steps(c, 2, adam);
}

bool import_momentum(Call *c) {
    const char *mode = call_string(c, "mode", "");
    if (!strcmp(mode, "standard") || !strcmp(mode, "nesterov")) return run_steps(c, 1, momentum);
    diag_error(c->im->d, c->loc, "mode is '%s'; standard and nesterov exist", mode);
    return false;
}
