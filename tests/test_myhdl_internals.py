# SPDX-License-Identifier: Apache-2.0
"""What hls/verilog/myhdl_internals.py takes from MyHDL is there and does what heepgen needs, or a failure says what."""

import ast
import re
from io import StringIO

import pytest
from myhdl import ConcatSignal, ResetSignal, Signal, Simulation, always, always_comb, block, delay, intbv

from hls.verilog import myhdl_internals as internals
from tests.house import ROOT, modules

TABLE = (3, 1, 4, 1)
HOME = "hls.verilog.myhdl_internals"


@block
def tiny(clk, a, y, picked, chosen):
    """One generator of each kind, a list of signals, a table, a slice and a concatenation."""
    high = a(4, 2)
    both = ConcatSignal(high, a, "01", True)
    store = [Signal(intbv(0)[4:]) for _ in range(2)]

    @always(clk.posedge)
    def clocked():
        store[a[1:]].next = a
        if a == 1:
            chosen.next = 5
        elif a == 2:
            chosen.next = 6
        else:
            chosen.next = store[a[1:]]

    @always_comb
    def wire():
        y.next = both

    @always_comb
    def look_up():
        picked.next = TABLE[high]

    return clocked, wire, look_up


def signals():
    return {
        "clk": Signal(False),
        "a": Signal(intbv(0)[4:]),
        "y": Signal(intbv(0)[9:]),
        "picked": Signal(intbv(0)[3:]),
        "chosen": Signal(intbv(0)[4:]),
    }


@pytest.fixture
def analysed():
    ports = signals()
    instance = tiny(**ports)
    found = internals.analyse(instance, "tiny")
    yield ports, found
    found.clear()


def tree_of(found, name):
    return next(t for g, t in zip(found.generators, found.trees, strict=True) if g.name == name)


def private(name):
    return re.match("_[a-zA-Z]", name)


def test_privates_of_myhdl_have_one_home():
    """No other file imports one, or takes an attribute that is called like one."""
    instance = tiny(**signals())
    a = Signal(intbv(0)[4:])
    things = (a, a(2, 0), ConcatSignal(a, "0"), instance, *instance.subs)
    attributes = {name for thing in things for name in dir(thing) if private(name)}
    assert {"_name", "_driven", "_inferInterface", "_sigargs"} <= attributes
    taken = []
    for module, path in modules("hls", "firmware_gen", "sim", "xheep_integration", "gen", "examples", "tests").items():
        nodes = () if module in (HOME, __name__, f"tests.{__name__}") else ast.walk(ast.parse(path.read_text()))
        for node in nodes:
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "myhdl":
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [n for alias in node.names if alias.name.startswith("myhdl.") for n in alias.name.split(".")]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
                names = {node.attr} & attributes
            taken += [f"{path.relative_to(ROOT)}:{node.lineno} takes {name}" for name in names if private(name)]
    assert not taken


def test_signals_say_what_they_are():
    flag, number, free = Signal(True), Signal(intbv(5)[4:]), Signal(0)
    assert internals.value_type(flag) is bool, "MyHDL: Signal._type of a bool"
    assert internals.value_type(number) is intbv, "MyHDL: Signal._type of an intbv"
    assert internals.value_type(free) == (int,), "MyHDL: Signal._type of an int"
    assert int(internals.initial_value(number)) == 5, "MyHDL: Signal._init"
    assert (len(flag), len(number), number.min) == (1, 4, 0), "MyHDL: len() or min of a signal"
    assert internals.initial_value(ResetSignal(1, active=0, isasync=False)) is True, "MyHDL: ResetSignal._init"


def test_a_value_is_set_without_an_event():
    a, seen = Signal(intbv(0)[4:]), []
    flag = Signal(False)
    internals.preset(a, 9)
    internals.preset(flag, 1)

    @always(a)
    def changes():
        seen.append(int(a))

    simulation = Simulation(changes)
    simulation.run(5, quiet=1)
    simulation.quit()
    assert int(a) == int(internals.initial_value(a)) == 9, "MyHDL: Signal._init, ._val, ._next of an intbv"
    assert flag.val is True, "MyHDL: Signal._init, ._val, ._next of a bool"
    internals.force(a, intbv(3)[4:])
    assert int(a) == 3, "MyHDL: Signal._val"
    assert not seen, "MyHDL: an event where none was meant"


def test_shadows_name_their_sources():
    a, b = Signal(intbv(0)[4:]), Signal(False)
    part, joint = a(4, 2), ConcatSignal(a, "01", b)
    assert internals.is_slice(part) and internals.is_shadow(part), "MyHDL: _SliceSignal"
    assert internals.is_shadow(joint) and not internals.is_slice(joint), "MyHDL: ConcatSignal"
    assert not internals.is_shadow(a)
    (whole,) = internals.sources(part)
    assert whole is a, "MyHDL: _SliceSignal._sig"
    assert [id(s) for s in internals.sources(joint)] == [id(a), id(b)], "MyHDL: ConcatSignal._sigargs"
    assert internals.sources(a) == []
    first, text, last = internals.operands(joint)
    assert first is a and text == "01" and last is b, "MyHDL: ConcatSignal._args"


def test_names_reach_slices():
    a = Signal(intbv(0)[8:])
    part, bit = a(6, 2), a(7)
    internals.set_verilog_name(a, "word")
    names = [internals.verilog_name(s) for s in (a, part, bit)]
    assert names == ["word", "word[6-1:2]", "word[7]"], "MyHDL: Signal._name, ._slicesigs or _SliceSignal._setName"
    assert internals.event_text(a) == "word" and internals.event_text(a.posedge) == "posedge word", "MyHDL: _toVerilog"


def test_marks():
    a = Signal(intbv(0)[4:])
    joint = ConcatSignal(a, "0")
    assert not internals.is_used(a) and not a.read and not a.driven
    internals.mark_used(joint)
    joint.read = True
    assert internals.is_used(a) and internals.is_used(joint), "MyHDL: ConcatSignal._markUsed"
    assert a.read, "MyHDL: ConcatSignal._markRead"


def test_signals_made_inside_are_forgotten():
    before = list(map(id, internals._signals))
    with internals.forgotten_signals():
        Signal(False)
        assert len(internals._signals) == len(before) + 1, "MyHDL: a new signal is not in _simulator._signals"
    assert list(map(id, internals._signals)) == before


def test_lists_of_signals_are_forgotten():
    tiny(**signals())
    assert internals._memInfoMap, "MyHDL: a list of signals is not in _extractHierarchy._memInfoMap"
    internals.forget_memories()
    assert not internals._memInfoMap


def test_the_stack_is_asked_for_through_inspect(monkeypatch):
    asked = []

    def stack():
        asked.append(True)
        return internals._nearest_frames()[1:]

    for module in (internals._block, internals._instance):
        monkeypatch.setattr(module.inspect, "stack", stack)
    tiny(**signals())
    assert len(asked) >= 4, "MyHDL: _block and _instance do not call inspect.stack() once for each block and generator"


def test_a_block_is_not_read_when_it_is_decorated():
    def nothing():
        return []

    assert internals.BlockDecorator(nothing).srcline == nothing.__code__.co_firstlineno, (
        "MyHDL: block_decorator.srcline"
    )


def test_a_block_knows_who_made_what():
    instance = tiny(**signals())
    assert [sub.name for sub in instance.subs] == ["clocked", "wire", "look_up"], "MyHDL: _Block.subs, generator.name"
    assert all(isinstance(sub, internals.Generator) for sub in instance.subs), "MyHDL: _instance._Instantiator"
    seen = internals.names_in_sight(instance.subs[0])
    assert {"high", "both", "store", "clk"} <= seen.keys(), "MyHDL: callinfo.symdict of a generator"
    assert instance.func.__name__ == "tiny" and "a" in instance.kwargs, "MyHDL: _Block.func, .kwargs"


def test_a_stub_stands_for_a_block():
    class Stub(internals.BlockStub):
        def __init__(self):
            super().__init__(test_a_stub_stands_for_a_block, "stub", callers=1)
            self.verilog_code = internals.VerilogText(lambda: "anything;")

    @block
    def parent(a):
        stubs = [Stub() for _ in range(2)]

        @always_comb
        def follow():
            a.next = a

        return stubs, follow

    instance = parent(Signal(False))  # MyHDL refuses what is not made in a block
    first, second, _ = instance.subs
    assert first.callername == "parent" and first.modctxt, "MyHDL: _Block.callername, .modctxt"
    assert "a" in internals.names_in_sight(second), "MyHDL: _Block.callinfo"
    found = internals.analyse(instance, "parent")
    assert [str(tree) for tree in found.trees[:2]] == ["anything;"] * 2, "MyHDL: _Block.verilog_code, _UserVerilogCode"
    found.clear()


def test_analysis_finds_signals_and_memories(analysed):
    ports, found = analysed
    assert ports["y"].driven == "wire" and ports["chosen"].driven == "reg", "MyHDL: Signal._driven after _analyzeGens"
    assert ports["a"].read and not ports["y"].read, "MyHDL: Signal._read after _analyzeGens"
    names = {internals.verilog_name(s) for s in found.signals if internals.is_used(s)}
    assert {"clk", "a", "y", "both", "picked"} <= names, "MyHDL: names after _analyzeSigs"
    (store,) = found.memories
    assert (store.name, store.depth, len(store.elObj)) == ("store", 2, 4), "MyHDL: _MemInfo"
    found.clear()
    assert ports["y"].driven is None and not ports["a"].read, "MyHDL: Signal._clear"


def test_kinds_of_generators(analysed):
    _, found = analysed
    kinds = {g.name: tree.kind for g, tree in zip(found.generators, found.trees, strict=True)}
    expected = {"clocked": internals.Kind.CLOCKED, "wire": internals.Kind.WIRE, "look_up": internals.Kind.COMBINATIONAL}
    assert kinds == expected, "MyHDL: tree.kind"


def test_trees_say_what_names_are(analysed):
    ports, found = analysed
    clocked, look_up = tree_of(found, "clocked"), tree_of(found, "look_up")
    assert clocked.symdict["a"] is ports["a"], "MyHDL: tree.symdict"
    assert clocked.vardict == {} and clocked.argnames == [], "MyHDL: tree.vardict, tree.argnames"
    assert [internals.event_text(e) for e in clocked.senslist] == ["posedge clk"], "MyHDL: tree.senslist"
    (lookup,) = (node for node in ast.walk(look_up) if isinstance(node, ast.Subscript))
    assert tuple(internals.table_of(lookup.value)) == TABLE, "MyHDL: _Rom"
    assert internals.table_of(lookup.slice) is None and internals.width_of(lookup.slice) == 2, "MyHDL: node.obj"


def test_choices(analysed):
    _, found = analysed
    (branch, *_) = (node for node in ast.walk(tree_of(found, "clocked")) if isinstance(node, ast.If))
    parts = internals.choice(branch)
    assert len(parts.tests) == 2 and len(parts.otherwise) == 1, "MyHDL: node.tests, node.else_ of an if"
    assert ast.unparse(internals.case_subject(branch)) == "a", "MyHDL: node.caseVar"
    assert [internals.case_value(test) for test, _ in parts.tests] == [1, 2], "MyHDL: test.case"


@pytest.mark.parametrize("name", ["clocked", "wire", "look_up"])
def test_writers_are_asked(analysed, name):
    """The writers call what hls/verilog/module.py writes otherwise, and write into `buf`."""
    _, found = analysed
    tree = tree_of(found, name)
    writers = {
        internals.Kind.CLOCKED: internals.ClockedWriter,
        internals.Kind.COMBINATIONAL: internals.CombinationalWriter,
        internals.Kind.WIRE: internals.WireWriter,
    }
    asked = set()

    class Asking(writers[tree.kind]):
        def visit_Assign(self, node):
            asked.add("visit_Assign")
            self.visit(node.targets[0])
            assert self.isSigAss == (name == "clocked"), "MyHDL: isSigAss"
            self.isSigAss = False
            self.write(" <= ")
            self.visit(node.value)

        def writeAlwaysHeader(self):
            asked.add("writeAlwaysHeader")
            self.indent()

        def mapToCase(self, node):
            asked.add("mapToCase")

        def getName(self, node):
            asked.add("getName")
            super().getName(node)

        def accessSlice(self, node):
            asked.add("accessSlice")
            super().accessSlice(node)

        def writeDoc(self, node):
            asked.add("writeDoc")

    internals.TypeAnnotator(tree).visit(tree)
    writer = Asking(tree, StringIO(), StringIO())
    writer.visit(tree)
    expected = {
        "clocked": {"writeDoc", "writeAlwaysHeader", "visit_Assign", "mapToCase", "getName", "accessSlice"},
        "wire": {"writeDoc", "visit_Assign", "getName"},
        "look_up": {"writeDoc", "writeAlwaysHeader", "visit_Assign", "getName"},
    }[name]
    assert expected <= asked, f"MyHDL: the writer of {name} does not ask {expected - asked}"
    assert " <= " in writer.buf.getvalue(), "MyHDL: writer.buf"


def test_a_simulation_still_runs():
    ports = signals()
    instance, seen = tiny(**ports), []

    @always(delay(1))
    def clock():
        ports["clk"].next = not ports["clk"]
        ports["a"].next = 14
        seen.append((int(ports["y"]), int(ports["picked"])))

    simulation = Simulation(instance, clock)
    simulation.run(4, quiet=1)
    simulation.quit()
    assert seen[-1] == (0b11_1110_01_1, TABLE[3])
