#!/usr/bin/env python3
"""Makes waves.onnx, a model with operators of the domain com.example, and gates.onnx, whose functions are operators of
that domain. Needs the onnx package; the files are kept, so nobody has to run this."""
import os

import onnx
from onnx import TensorProto, helper

HERE = os.path.dirname(os.path.abspath(__file__))
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.example", 1)]


def save(graph, name, functions=()):
    model = helper.make_model(graph, ir_version=10, opset_imports=OPSETS, functions=functions)
    onnx.save(model, os.path.join(HERE, name))


def main():
    gate = helper.make_function("com.example", "Gate", ["x"], ["y"], [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Mul", ["x", "s"], ["y"]),
    ], [helper.make_opsetid("", 21)])
    save(helper.make_graph([], "library", [], []), "gates.onnx", [gate])
    gain = helper.make_tensor("gain", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    save(helper.make_graph([
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Wave", ["positive", "gain"], ["wave"], domain="com.example", scale=0.5),
        helper.make_node("Gate", ["wave"], ["y"], domain="com.example"),
        helper.make_node("RowPeak", ["y"], ["peak", "place"], domain="com.example"),
    ], "waves", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("place", TensorProto.INT64, ["n"]),
    ], [gain]), "waves.onnx")


if __name__ == "__main__":
    main()
