"""The graph structure section: cycles, names that are missing or there twice, nesting, opsets, operators."""
from encode import LOCAL, attribute, blob, call, fixture, function, graph, model, node, num, relu, section, tensor

section("graph structure")

@fixture("cycle_2", 1, r"a cycle of 2 nodes: 'b' \(Relu #1\) -> 'a' \(Relu #0\) -> 'b'"
         r"|a cycle of 2 nodes: 'a' \(Relu #0\) -> 'b' \(Relu #1\) -> 'a'")
def _(d):
    return model(graph([relu("q", "y", "a"), relu("y", "q", "b")]))


@fixture("cycle_100000", 1, r"a cycle of 100000 nodes: .*\(99992 more\)", slow=True)
def _(d):
    n = 100000
    return model(graph([relu(f"v{(i - 1) % n}", f"v{i}") for i in range(n)], outputs=("v1",)))


@fixture("cycle_shortest", 1, r"a cycle of 3 nodes")
def _(d):
    n = 1000
    nodes = [relu(f"v{(i - 1) % n}", f"v{i}") for i in range(n)]
    nodes[0] = node("Add", [f"v{n - 1}", "v2"], ["v0"])
    return model(graph(nodes, outputs=("v1",)))


@fixture("own_output", 1, r"a node needs its own output: 'n' \(Relu #0\)")
def _(d):
    return model(graph([relu("y", "y", "n")]))


@fixture("output_twice", 1,
         r"'y' is defined twice: output of node 'a' \(Relu #0\) and output of node 'b' \(Relu #1\)")
def _(d):
    return model(graph([relu(name="a"), relu(name="b")]))


@fixture("output_is_input", 1, r"'x' is defined twice: input #0 and output of node 'a'")
def _(d):
    return model(graph([relu("x", "x", "a")], outputs=("x",)))


@fixture("output_is_initializer", 1, r"'w' is defined twice: initializer #0 and output of node")
def _(d):
    return model(graph([relu("x", "w")], outputs=("w",), initializers=[tensor("w")]))


@fixture("initializer_twice", 1, r"'w' is defined twice: initializer #0 and initializer #1")
def _(d):
    return model(graph([relu()], initializers=[tensor("w"), tensor("w")]))


@fixture("initializer_twice_with_input", 1, r"'x' is defined twice: initializer #0 and init.* #1")
def _(d):
    return model(graph([relu()], initializers=[tensor("x"), tensor("x")]))


@fixture("initializer_of_input", 0, r"^$")
def _(d):
    return model(graph([relu()], inputs=("x", "w"), initializers=[tensor("w")]))


@fixture("input_twice", 1, r"'x' is defined twice: input #0 and input #1")
def _(d):
    return model(graph([relu()], inputs=("x", "x")))


@fixture("input_dangling", 1, r"input 0, 'inptu', is not defined; did you mean 'input'\?")
def _(d):
    return model(graph([relu("inptu")], inputs=("input",)))


@fixture("output_dangling", 1, r"output 0, 'probs', is never produced; did you mean 'prob'\?")
def _(d):
    return model(graph([relu("x", "prob")], outputs=("probs",)))


@fixture("unsorted", 0, r"^$")
def _(d):
    return model(graph([relu("t", "y", "last"), relu("x", "t", "first")]))


# Checked and described at once; to compile takes time and memory in proportion, or memory's end.
HUGE, HUGE_SECONDS = {"compile": 6144, "": 1536}, {"compile": 400, "": 4}


@fixture("chain_million", 0, r"^$", mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    n = 1000000
    nodes = [relu(f"v{i}" if i else "x", f"v{i + 1}", "") for i in range(n)]
    return model(graph(nodes, outputs=(f"v{n}",)))


@fixture("chain_million_reversed", 0, r"^$", mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    n = 1000000
    nodes = [relu(f"v{i}" if i else "x", f"v{i + 1}", "") for i in range(n)]
    return model(graph(nodes[::-1], outputs=(f"v{n}",)))


@fixture("fan_out_million", 0, r"^$", mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    return model(graph([relu("x", f"v{i}", "") for i in range(1000000)], outputs=("v7",)))


@fixture("concat_million", 0, r"^$|1000000 calls of kernels; at most 65536", compiles=1, mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    axis = attribute("axis", 2, num(3, 0))
    return model(graph([node("Concat", ["x"] * 1000000, ["y"], [axis])]))


@fixture("recursive_function", 1, r"functions call themselves: 'f' -> 'f'")
def _(d):
    f = function("f", [call("f", "a", "b")])
    return model(graph([call("f", "x", "y")]), more=LOCAL + blob(25, f))


@fixture("mutual_recursion", 1, r"functions call themselves: '(f' -> 'g' -> 'f|g' -> 'f' -> 'g)'")
def _(d):
    f, g = function("f", [call("g", "a", "b")]), function("g", [call("f", "a", "b")])
    return model(graph([call("f", "x", "y")]), more=LOCAL + blob(25, f) + blob(25, g))


def doubling(n):
    """f0 is a Relu, each next function calls the one before twice."""
    out = blob(25, function("f0", [node("Relu", ["a"], ["b"])]))
    for i in range(1, n + 1):
        body = [call(f"f{i - 1}", "a", "t"), call(f"f{i - 1}", "t", "b")]
        out += blob(25, function(f"f{i}", body))
    return model(graph([call(f"f{n}", "x", "y")]), more=LOCAL + out)


@fixture("function_bomb_2_29", 1, r"\d+ nodes after inlining functions; at most 5000000")
def _(d):
    return doubling(29)


@fixture("function_bomb_2_5000", 1, r"more than \d+ nodes after inlining", slow=True)
def _(d):
    return doubling(5000)


@fixture("function_good", 0, r"^$")
def _(d):
    return doubling(3)


@fixture("function_twice", 1, r"function 'f' of domain 'local' is defined twice")
def _(d):
    f = blob(25, function("f", [node("Relu", ["a"], ["b"])]))
    return model(graph([call("f", "x", "y")]), more=LOCAL + f + f)


@fixture("function_dangling", 1,
         r"node '' \(Relu #0, in function f\): input 0, 'q', is not defined")
def _(d):
    f = function("f", [node("Relu", ["q"], ["b"])])
    return model(graph([call("f", "x", "y")]), more=LOCAL + blob(25, f))


def branch(nodes, outputs=("y",), name="then_branch"):
    return attribute(name, 5, blob(6, graph(nodes, inputs=(), outputs=outputs)))


@fixture("capture", 0, r"^$")
def _(d):
    then, other = branch([relu("x", "p")], ("p",)), branch([relu("x", "q")], ("q",), "else_branch")
    cond = tensor("c", dims=(), dtype=9, raw=b"\1")
    return model(graph([node("If", ["c"], ["y"], [then, other])], initializers=[cond]))


@fixture("capture_later", 0, r"^$")
def _(d):
    then, other = branch([relu("t", "p")], ("p",)), branch([relu("x", "q")], ("q",), "else_branch")
    cond = tensor("c", dims=(), dtype=9, raw=b"\1")
    nodes = [node("If", ["c"], ["y"], [then, other]), relu("x", "t")]
    return model(graph(nodes, initializers=[cond]))


@fixture("capture_cycle", 1, r"a node needs its own output: 'if' \(If #0\)")
def _(d):
    then = branch([relu("y", "p")], ("p",))
    return model(graph([node("If", ["x"], ["y"], [then], name="if")]))


@fixture("capture_unknown", 1, r"node 'r' \(Relu #0, in main/If_0\.then_branch\): input 0, 'zz'")
def _(d):
    return model(graph([node("If", ["x"], ["y"], [branch([relu("zz", "p")], ("p",))])]))


@fixture("inner_value_used_outside", 1, r"input 0, 'p', is not defined")
def _(d):
    then = branch([relu("x", "p")], ("p",))
    return model(graph([node("If", ["x"], ["t"], [then]), relu("p")]))


@fixture("shadowing", 0, r"warning: .*'t' hides a value")
def _(d):
    then, other = branch([relu("x", "t")], ("t",)), branch([relu("x", "q")], ("q",), "else_branch")
    cond = tensor("c", dims=(), dtype=9, raw=b"\1")
    nodes = [relu("x", "t"), node("If", ["c"], ["u"], [then, other]),
             node("Add", ["t", "u"], ["y"])]
    return model(graph(nodes, initializers=[cond]))


@fixture("opset_missing", 1, r"opset_import is missing")
def _(d):
    return model(graph([relu()]), opset=None)


@fixture("opset_0", 1, r"version 0, must be at least 1")
def _(d):
    return model(graph([relu()]), opset=0)


@fixture("opset_negative", 1, r"version -1, must be at least 1")
def _(d):
    return model(graph([relu()]), opset=-1)


@fixture("opset_9999", 3, r"opset version 9999 of domain 'ai\.onnx' is newer than 28")
def _(d):
    return model(graph([relu()]), opset=9999)


@fixture("opset_twice", 1, r"domain '' is imported twice, as version 17 and 18")
def _(d):
    return model(graph([relu()]), more=blob(8, num(2, 18)))


@fixture("domain_not_imported", 1, r"opset_import lacks domain 'acme', which 2 nodes use \(Foo is")
def _(d):
    return model(graph([node("Foo", ["x"], ["t"], domain="acme"),
                        node("Bar", ["t"], ["y"], domain="acme")]))


@fixture("ir_version_missing", 1, r"ir_version is missing")
def _(d):
    return model(graph([relu()]))[2:]


@fixture("ir_version_99", 3, r"IR version 99 is not supported; 1 to 14 are")
def _(d):
    return model(graph([relu()]), ir=99)


@fixture("no_graph", 1, r"the model has no graph")
def _(d):
    return model(None)


@fixture("no_op_type", 1, r"it names no operator")
def _(d):
    return model(graph([blob(1, "x") + blob(2, "y")]))


@fixture("unnamed_initializer", 1, r"initializer 0 has no name")
def _(d):
    return model(graph([relu()], initializers=[tensor("")]))


@fixture("twenty_problems", 1, r"smelt: \d+ more problems are not shown|(.*\n){19}")
def _(d):
    return model(graph([relu(f"missing_{i}", f"o{i}") for i in range(50)], outputs=()))
