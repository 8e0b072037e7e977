# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from firmware_gen.ir import IDENTITY, Activate, Activated, Activation, Fused, Graph, Node, OnCpu, Product, Slopes, Value

ON_CPU: dict[str, type[OnCpu]] = {"multiply": Product, "negative": Slopes}


def exclude_each_other(combine: str | None, act: Activation) -> bool:
    """Whether no layer does both: there is one multiplier."""
    return combine in ON_CPU and act.multiplies


def split_products(graph: Graph) -> Graph:
    """Products of tensors as operators of the CPU, apart from their layers, for hardware that only adds."""
    nodes: list[Node] = []
    values: list[Value] = []
    for node in graph.nodes:
        if isinstance(node, Activated) and node.combines in ON_CPU:
            nodes += _split(graph, node, ON_CPU[node.combines], values)
        else:
            nodes.append(node)
    return graph.with_nodes(nodes, values=values)


def _split(graph: Graph, node: Activated, product: type[OnCpu], values: list[Value]) -> list[Node]:
    """The layer without the product, the product, the activation behind it; `values` grow by those between."""
    chain: list[Node] = []
    late = IDENTITY if isinstance(node, Fused) and node.residual == "after_act" else node.act
    operands = node.inputs

    def between(what: str) -> str:
        values.append(Value(f"{node.output}.{what}", graph.out_shape(node)))
        return values[-1].name

    if isinstance(node, Fused):
        early = node.act if late == IDENTITY else IDENTITY
        operands = between("factor"), node.inputs[1]
        chain.append(
            replace(node, inputs=node.inputs[:1], output=operands[0], residual="none", combine="add", act=early)
        )
    name = f"{node.name}.{node.combines}" if chain else node.name
    output = node.output if late == IDENTITY else between("product")
    chain.append(product(name=name, inputs=operands, output=output))
    if late != IDENTITY:
        chain.append(Activate(name=f"{node.name}.act", inputs=(output,), output=node.output, act=late))
    return chain
