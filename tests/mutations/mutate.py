"""Small mistakes in a module, one at a time: what a person might have written instead. Pure: text in, texts out.

Each is a replacement of one place of the source, so that the rest stays as it is and a diff shows nothing else. What
says nothing to whoever runs the code is left alone: annotations, decorators, assertions, texts, and a class's keywords.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_METHODS = {"append": "appendleft", "appendleft": "append", "pop": "popleft", "popleft": "pop"}
_REMOVABLE = (ast.AugAssign, ast.Break, ast.Continue, ast.Delete, ast.Raise)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: ``text`` instead of the bytes from ``start`` to ``end`` of the source, in ``line``."""

    start: int
    end: int
    line: int
    text: str

    def applied(self, source: bytes) -> bytes:
        """Return the source with the mistake."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutants(source: bytes) -> list[Mutant]:
    """Return every mistake that can be made in ``source``, each of which is still Python."""
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    found = []
    for node, text in _walk(ast.parse(source)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[node.end_lineno - 1] + node.end_col_offset
        mutant = Mutant(start, end, node.lineno, text)
        if source[start:end] != text.encode() and _is_python(mutant.applied(source)):
            found.append(mutant)
    return list(dict.fromkeys(found))


def _is_python(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


_Place = ast.expr | ast.stmt


def _walk(node: ast.AST) -> Iterator[tuple[_Place, str]]:
    """Yield what can be replaced at and below ``node``, and by what."""
    if isinstance(node, ast.expr):
        yield from ((node, text) for text in _of_expression(node))
    elif isinstance(node, ast.stmt):
        yield from _of_statement(node)
    for child in _looked_at(node):
        yield from _walk(child)


def _looked_at(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.JoinedStr() | ast.Assert():  # places within an f-string are not known before Python 3.12
            return
        case ast.AnnAssign(value=value):
            yield from [value] if value is not None else []
        case ast.FunctionDef(args=args, body=body) | ast.AsyncFunctionDef(args=args, body=body):
            yield from (default for default in [*args.defaults, *args.kw_defaults] if default is not None)
            yield from body
        case ast.ClassDef(body=body):
            yield from body
        case _:
            yield from ast.iter_child_nodes(node)


def _of_expression(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Compare(left=left, ops=[op, *ops], comparators=comparators):
            for other in _COMPARISONS[type(op)]:
                yield ast.unparse(ast.Compare(left, [other(), *ops], comparators))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield f"({ast.unparse(ast.BinOp(left, _OPERATORS[type(op)](), right))})"
        case ast.BoolOp(op=op, values=values):
            other_op = ast.And() if isinstance(op, ast.Or) else ast.Or()
            yield f"({ast.unparse(ast.BoolOp(other_op, values))})"
            yield from (f"({ast.unparse(value)})" for value in (values[0], values[-1]))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (f"({value + 1})", f"({value - 1})")
        case ast.IfExp(body=body, orelse=orelse):
            yield from (f"({ast.unparse(body)})", f"({ast.unparse(orelse)})")
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield ast.unparse(ast.Call(ast.Name(_NAMES[name]), node.args, node.keywords))
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _METHODS:
            yield ast.unparse(ast.Call(ast.Attribute(value, _METHODS[name]), node.args, node.keywords))


def _of_statement(node: ast.stmt) -> Iterator[tuple[_Place, str]]:
    match node:
        case ast.If(test=test) | ast.While(test=test):
            yield test, f"not ({ast.unparse(test)})"
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield value, "None"
        case ast.Expr(value=value) if not isinstance(value, ast.Constant):
            yield node, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case ast.AugAssign(target=target, op=op, value=value):
            yield node, "pass"
            if type(op) in _OPERATORS:
                yield node, ast.unparse(ast.AugAssign(target, _OPERATORS[type(op)](), value))
        case _ if isinstance(node, _REMOVABLE):
            yield node, "pass"
