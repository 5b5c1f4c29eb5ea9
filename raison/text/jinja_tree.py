"""Rewrites a template's tree, so that whatever Jinja would compile to plain Python passes a filter that counts.

Turns of loops and their conditions, comparisons, literals of lists and dicts, subscripts and slices, `~`, what is
stored in a namespace, and all output. The filters themselves are jinja_sandbox.py's. What chat templates have no use
for is refused here: inheritance, other files, autoescape, and chains of comparisons without end.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

MAX_CHAIN = 16
WRITE, TICK, MADE, CONCAT = "raison write", "raison tick", "raison made", "raison concat"
"""The hidden filters. A template can reach them as `map("raison tick")`; they do no harm there."""
FORBIDDEN = (nodes.Block, nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include, nodes.EvalContextModifier)


class Generation(Extension):
    """`{% generation %}`, by which trainers mark the assistant's part; here it only has its own scope."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class Rewriter(NodeTransformer):
    """Puts the hidden filters around whatever Jinja would compile to plain Python."""

    def _around(self, node: Any, name: str) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, FORBIDDEN):
            raise TemplateSyntaxError(f"{type(node).__name__.lower()} is not allowed in a chat template", node.lineno)
        return super().generic_visit(node, *args, **kwargs)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [self._around(child, WRITE) for child in node.nodes]
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        tick = self._around(nodes.Const(True, lineno=node.lineno), TICK)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(tick, node.test, lineno=node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if len(node.ops) > MAX_CHAIN:
            raise TemplateSyntaxError("a chain of comparisons is too long", node.lineno)
        return self._around(node, TICK)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._around(nodes.List(node.nodes, lineno=node.lineno), CONCAT)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Const):
            return node
        return self._around(node, MADE if isinstance(node.arg, nodes.Slice) else TICK)

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        self.generic_visit(node)
        if node.target.find(nodes.NSRef) or isinstance(node.target, nodes.NSRef):
            node.node = self._around(node.node, MADE)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = self._around(node.key, TICK)
        return node

    def _visit_literal(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._around(node, MADE)

    visit_List = visit_Tuple = visit_Dict = _visit_literal


def rewritten(tree: nodes.Template, environment: Environment) -> nodes.Template:
    """The tree, changed in place. Raises TemplateSyntaxError for what is refused."""
    changed: nodes.Template = Rewriter().visit(tree)
    changed.set_environment(environment)
    return changed
