# SPDX-License-Identifier: Apache-2.0
"""What arguments a function or class takes."""

import ast
import inspect
from collections.abc import Callable, Mapping
from textwrap import dedent


def arguments_of(part: Callable, kept_for: Mapping[Callable, Callable] | None = None) -> set[str] | None:
    """Names of the arguments of a function or class, with those of the bases that get its ``**kwargs``.

    Args:
        part (Callable): the function or class.
        kept_for (Mapping, optional): classes that keep their ``**kwargs`` for a function. Defaults to None.

    Returns:
        set[str] | None: the names; None if there is no telling, as ``**kwargs`` go elsewhere.
    """
    names: set[str] = set()
    for owner in inspect.getmro(part) if inspect.isclass(part) else [part]:
        call = vars(owner).get('__init__') if inspect.isclass(part) else part
        if call is None or owner is object:
            continue
        try:
            parameters = inspect.signature(call).parameters.values()
        except ValueError:  # written in C
            return None
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {'self'}
        if owner in (kept_for or {}):
            return names | arguments_of(kept_for[owner])
        rest = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
        if not rest:
            return names
        looked_up = _looked_up(call, rest[0]) if inspect.isclass(part) else None
        if looked_up is None:
            return None
        names |= looked_up
    return None if names else set()


def _looked_up(call: Callable, kwargs: str) -> set[str] | None:
    """Names that a constructor looks up in its ``**kwargs``; None if these go elsewhere than to a base."""
    names: list[str] = []
    try:
        nodes = list(ast.walk(ast.parse(dedent(inspect.getsource(call)))))
    except (OSError, TypeError):  # no source
        return None
    uses = sum(isinstance(node, ast.Name) and node.id == kwargs for node in nodes)
    for node in nodes:
        match node:
            case (
                ast.Call(ast.Attribute(ast.Name(id), 'get' | 'pop' | 'setdefault'), [ast.Constant(name), *_])
                | ast.Subscript(ast.Name(id), ast.Constant(name))
                | ast.Compare(ast.Constant(name), [ast.In()], [ast.Name(id)])
            ) if id == kwargs:
                names.append(str(name))
            case ast.Call(ast.Attribute(_, '__init__'), _, keywords):
                uses -= sum(word.arg is None and isinstance(word.value, ast.Name) for word in keywords)
            case ast.Assign([ast.Name(id)], ast.BinOp(_, ast.BitOr(), ast.Name(other))) if id == other == kwargs:
                uses -= 2  # defaults are added
    return set(names) if uses == len(names) else None
