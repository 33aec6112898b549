"""What the rows share: the list of them, drawing one, and drawing types and axes."""
import onnx

from graph_build import FLOATS, SCHEMA_TYPES, Reject

ROWS = []      # (family, weight, function)


def row(family, weight=1.0):
    def add(function):
        ROWS.append((family, weight, function))
        return function
    return add


def types_of(g, op, which=0):
    """dtypes that the schema allows for input `which`."""
    try:
        schema = onnx.defs.get_schema(op, g.opset)
    except onnx.defs.SchemaError:
        raise Reject(f"no {op} in opset {g.opset}") from None
    text = schema.inputs[min(which, len(schema.inputs) - 1)].type_str
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == text), [text])
    found = [SCHEMA_TYPES[t] for t in allowed if t in SCHEMA_TYPES]
    return [d for d in found if d != "str" or g.strings]


def floats_of(g, op):
    return [d for d in types_of(g, op) if d in FLOATS]


def axis_of(g, rank):
    axis = g.rng.randrange(rank)
    return axis - rank if g.chance(0.3) else axis


def grow_once(g):
    """One more row, chosen by the mix; several tries."""
    families = list(g.mix)
    for _ in range(30):
        family = g.rng.choices(families, [g.mix[f] for f in families])[0]
        rows = [(w, f) for fam, w, f in ROWS if fam == family]
        draw = g.rng.choices([f for _, f in rows], [w for w, _ in rows])[0]
        if g.attempt(draw):
            return True
    return False
