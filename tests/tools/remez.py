#!/usr/bin/env python3
"""Writes ir/math_tables.h: the minimax polynomials of ir/math.c.

Each row of FITS is a function g on an interval, to be approximated by a polynomial so that
|(g - p) * weight| is smallest. The exchange runs on a fixed grid in high precision; then the
coefficients are rounded to the target precision one after the other, lowest power first, the rest
being fitted again after each, so that a rounded coefficient's error is taken up by later ones.

Usage: remez.py > ir/math_tables.h   (needs mpmath; the error of each fit goes to stderr)
"""
import struct
import sys

from mpmath import mp, mpf, cos, pi, exp, log, sin, atan, asin, erf, erfc, sqrt, tanh, lu_solve
from mpmath import matrix, log1p, expm1

mp.prec = 200
LN2 = log(mpf(2))
GRID = 700


def to_float(x, bits):
    if bits == 53:
        return mpf(float(x))
    return mpf(struct.unpack("f", struct.pack("f", float(x)))[0])


def minimax(points, values, weights, powers):
    """Coefficients of the given powers that minimise max |(value - p) * weight| on the points."""
    n = len(powers)
    idx = [round((len(points) - 1) * i / n) for i in range(n + 1)]
    rows = [[x ** e for e in powers] for x in points]
    best = None
    for _ in range(30):
        a = matrix(n + 1, n + 1)
        b = matrix(n + 1, 1)
        for r, i in enumerate(idx):
            for c in range(n):
                a[r, c] = rows[i][c]
            a[r, n] = (-1) ** r / weights[i]
            b[r] = values[i]
        s = lu_solve(a, b)
        coef = [s[c] for c in range(n)]
        err = [(values[i] - sum(c * v for c, v in zip(coef, rows[i]))) * weights[i]
               for i in range(len(points))]
        worst = max(abs(e) for e in err)
        if best is None or worst < best[0]:
            best = (worst, coef)
        if worst <= abs(s[n]) * mpf("1.002"):
            break
        # one extremum per run of equal sign, then drop the smaller end until n + 1 remain
        runs = []
        for i, e in enumerate(err):
            sign = e > 0
            if runs and runs[-1][0] == sign:
                if abs(e) > abs(err[runs[-1][1]]):
                    runs[-1][1] = i
            else:
                runs.append([sign, i])
        ext = [r[1] for r in runs]
        while len(ext) > n + 1:
            if len(ext) == n + 2:
                ext.pop(0 if abs(err[ext[0]]) < abs(err[ext[-1]]) else -1)
            else:
                k = min(range(len(ext) - 1), key=lambda j: abs(err[ext[j]]) + abs(err[ext[j + 1]]))
                del ext[k:k + 2]
        if len(ext) < n + 1:
            break
        idx = ext
    return best


def fit(name, g, lo, hi, degree, weight, bits, refit=99):
    mid, half = (mpf(lo) + hi) / 2, (mpf(hi) - lo) / 2
    points = [mid - half * cos(pi * (i + mpf(1) / 2) / GRID) for i in range(GRID)]
    values = [g(x) for x in points]
    weights = [weight(x) for x in points]
    rest, left, fixed = list(range(degree + 1)), list(values), []
    ideal = None
    while rest:
        worst, coef = minimax(points, left, weights, rest)
        ideal = worst if ideal is None else ideal
        take = 1 if len(fixed) < refit and len(rest) > 1 else len(rest)
        for c, e in list(zip(coef, rest))[:take]:
            c = to_float(c, bits)
            fixed.append(c)
            left = [v - c * x ** e for v, x in zip(left, points)]
        rest = rest[take:]
    worst = max(abs(v * w) for v, w in zip(left, weights))
    sys.stderr.write("%-14s degree %2d  error 2^%.2f (ideal 2^%.2f)\n" %
                     (name, degree, float(log(worst, 2)), float(log(ideal, 2))))
    text = ",\n    ".join(float(c).hex() for c in fixed)
    print("/* error 2^%.1f */\nstatic const double %s[] = {\n    %s};" % (float(log(worst, 2)), name, text))


def safe(f, at0):
    return lambda x: at0 if x == 0 else f(x)


def g_normal(c):
    """(x + c) Phi(-x) e^(x^2/2), Phi being the normal distribution, in w = x / (x + c)."""
    def g(w):
        x = c * w / (1 - w)
        return (x + c) * exp(x * x / 2) * erfc(x / sqrt(mpf(2))) / 2
    return g


def main():
    r = LN2 / 2 * mpf("1.003")
    one = lambda x: mpf(1)
    print("/* Minimax polynomials of math.c, lowest power first. Written by tests/tools/remez.py. */")
    q = lambda x: (expm1(x) - x) / x ** 2
    fit("EXP_F32", q, -r, r, 4, lambda x: x * x / exp(x), 24)
    root = LN2 / 32 * mpf("1.003")
    fit("EXP_ROOT_F32", q, -root, root, 1, lambda x: x * x / exp(x), 24, 0)
    fit("EXP_F64", q, -r, r, 9, lambda x: x * x / exp(x), 53, 4)
    half = mpf("0.502")
    fit("EXP2_F32", lambda x: expm1(x * LN2) / x, -half, half, 5, lambda x: x / exp(x * LN2), 24)
    fit("EXP2_F64", lambda x: expm1(x * LN2) / x, -half, half, 11, lambda x: x / exp(x * LN2), 53, 4)
    fit("EXP2_POW", lambda x: expm1(x * LN2) / x, -half, half, 6, lambda x: x / exp(x * LN2), 53)
    lo, hi = sqrt(mpf(1) / 2) - 1, sqrt(mpf(2)) - 1
    lo, hi = lo - mpf("1e-6"), hi + mpf("1e-6")
    p = lambda x: (log1p(x) - x + x * x / 2) / x ** 3
    fit("LOG_F32", p, lo, hi, 7, lambda x: x ** 3 / log1p(x), 24)
    smax = mpf("0.1716") ** 2
    # log((1+s)/(1-s)) = 2s + s R(s^2)
    R = lambda z: (2 * mp.atanh(sqrt(z)) / sqrt(z) - 2)
    fit("LOG_F64", lambda z: R(z) / z, 0, smax, 6, lambda z: z, 53, 4)
    fit("LOG_POW", lambda z: R(z) / z, 0, smax, 4, lambda z: z, 53)
    fit("LOG_DD", lambda z: (R(z) / z - mpf(2) / 3) / z, mpf("1e-15"), smax, 7, lambda z: z * z, 53, 3)
    fit("TANH_F32", lambda z: (tanh(sqrt(z)) / sqrt(z) - 1) / z, mpf("1e-12"), mpf("0.66") ** 2, 4,
        lambda z: z * sqrt(z) / tanh(sqrt(z)), 24)
    fit("ERF_F32", lambda z: erf(sqrt(z)) / sqrt(z) - 1, mpf("1e-12"), mpf("0.89") ** 2, 6,
        lambda z: sqrt(z) / erf(sqrt(z)), 24)
    fit("ERF_F64", lambda z: erf(sqrt(z)) / sqrt(z) - 1, mpf("1e-12"), mpf(1), 11,
        lambda z: sqrt(z) / erf(sqrt(z)), 53, 4)
    at1 = log(erfc(mpf(1)))
    fit("LOG2ERFC_F32", safe(lambda x: (log(erfc(1 + x)) - at1) / x / LN2, 0), mpf("-0.13"), mpf(3), 5,
        lambda x: erfc(1 + x) * LN2 * x, 24)
    fit("LOG2NORMAL_F32", lambda x: (log(erfc(x / sqrt(mpf(2))) / 2) / LN2 + 1) / x, mpf("1e-9"), mpf(6), 7,
        lambda x: erfc(x / sqrt(mpf(2))) / 2 * LN2 * x, 24)
    c = mpf("2.5")
    fit("NORMAL_F32", g_normal(c), 0, mpf("14.6") / (mpf("14.6") + c), 9, lambda w: 1 / g_normal(c)(w), 24)
    c4 = mpf(4)
    fit("NORMAL_F64", g_normal(c4), 0, 40 / (40 + c4), 21, lambda w: 1 / g_normal(c4)(w), 53)
    fit("LOG1P_UNIT_F32", lambda x: (log1p(x) - x + x * x / 2) / x ** 3, mpf("1e-6"), mpf(1), 8,
        lambda x: x ** 3 / log1p(x), 24)
    z1 = (pi / 4 * mpf("1.002")) ** 2
    s = lambda z: (sin(sqrt(z)) / sqrt(z) - 1) / z
    co = lambda z: (cos(sqrt(z)) - 1 + z / 2) / z ** 2
    fit("SIN_F32", s, mpf("1e-10"), z1, 2, lambda z: z * sqrt(z) / sin(sqrt(z)), 24)
    fit("COS_F32", co, mpf("1e-10"), z1, 2, lambda z: z * z / cos(sqrt(z)), 24)
    fit("SIN_F64", s, mpf("1e-10"), z1, 6, lambda z: z * sqrt(z) / sin(sqrt(z)), 53, 4)
    fit("COS_F64", co, mpf("1e-10"), z1, 6, lambda z: z * z / cos(sqrt(z)), 53, 4)
    a = lambda z: (atan(sqrt(z)) / sqrt(z) - 1) / z
    fit("ATAN_F32", a, mpf("1e-10"), mpf(1), 8, lambda z: z * sqrt(z) / atan(sqrt(z)), 24)
    fit("ATAN_F64", a, mpf("1e-10"), mpf(1), 19, lambda z: z * sqrt(z) / atan(sqrt(z)), 53, 3)
    a = lambda z: (asin(sqrt(z)) / sqrt(z) - 1) / z
    z2 = mpf("0.2501")
    fit("ASIN_F32", a, mpf("1e-10"), z2, 4, lambda z: z * sqrt(z) / asin(sqrt(z)), 24)
    fit("ASIN_F64", a, mpf("1e-10"), z2, 11, lambda z: z * sqrt(z) / asin(sqrt(z)), 53, 3)
    emit_pi()


def chunk(x, first, count):
    """Bits first .. first + count - 1 after the binary point of x, as a number of that weight."""
    scaled = mp.floor(x * mpf(2) ** (first - 1 + count))
    return (scaled - mp.floor(x * mpf(2) ** (first - 1)) * mpf(2) ** count) / mpf(2) ** (first - 1 + count)


def emit_pi():
    x = 2 / pi
    print("/* 2/pi for |x| below 2^48, 2^72, 2^96, 2^120 and 2^128: 29, 29 and 53 bits, without the bits "
          "whose\n * products with such an x are multiples of 4. */")
    print("static const double TWO_OVER_PI[5][3] = {")
    for dropped in (0, 23, 47, 71, 95):
        parts = (chunk(x, dropped + 1, 29), chunk(x, dropped + 30, 29), chunk(x, dropped + 59, 53))
        print("    {%s}," % ", ".join(float(p).hex() for p in parts))
    print("};")
    print("/* pi/2 in parts of 33 bits, the last of 53 */")
    h = pi / 2
    p1 = mp.floor(h * mpf(2) ** 32) / mpf(2) ** 32
    p2 = mp.floor((h - p1) * mpf(2) ** 66) / mpf(2) ** 66
    p3 = h - p1 - p2
    print("static const double PI_HALF_PARTS[3] = {%s};" % ", ".join(float(p).hex() for p in (p1, p2, p3)))


main()
