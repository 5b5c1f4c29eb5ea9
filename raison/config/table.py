"""A strict parser from nested mappings (as TOML gives them) to dataclasses, and back.

Types: int, float (an int will do), bool, str, Literal, X | None, tuple[X, ...], tuple[X, Y], dict[str, X],
dataclasses, a dataclass | str, and a choice among dataclasses by `kind`, a class attribute of each, or else by their
keys. A field's key is its name, or `metadata["key"]`. A dataclass checks its own ranges in `__post_init__` by raising
UserError, and the message is given the place. Not covered: other unions, dates, defaults that depend on other fields,
reading files.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from raison.errors import UserError, nearest

T = TypeVar("T")
Shorthands = Mapping[type, Callable[[Any], Any]]
NAMES: Mapping[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes"}


def parse(cls: type[T], mapping: object, where: str = "", shorthands: Shorthands | None = None) -> T:
    """`mapping` as an instance of the dataclass `cls`.

    Args:
        where: key path of the mapping, for messages; empty at the top.
        shorthands: for a dataclass, what turns the written value into a full mapping before it is parsed.

    Raises UserError that names the key path: unknown key (with the nearest known one), wrong type, missing key, or what
    a dataclass says of its values.
    """
    return cast(T, _Parser(shorthands or {}).value(cls, mapping, where))


def to_table(record: Any) -> dict[str, Any]:
    """A dataclass as nested plain values that `parse` reads back to an equal one; fields that are None are left out."""
    kind = {"kind": record.kind} if hasattr(record, "kind") else {}
    pairs = ((key_of(f), getattr(record, f.name)) for f in fields(record))
    return {**kind, **{key: _plain(value) for key, value in pairs if value is not None}}


def key_of(f: Field[Any]) -> str:
    return str(f.metadata.get("key", f.name))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_table(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


class _Parser:
    """One method for each form of type; each raises UserError with the place."""

    def __init__(self, shorthands: Shorthands) -> None:
        self._shorthands = shorthands

    def value(self, kind: Any, value: Any, where: str) -> Any:
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._union(get_args(kind), value, where)
        if origin is Literal:
            return _literal(get_args(kind), value, where)
        if origin is tuple:
            return self._tuple(get_args(kind), value, where)
        if origin is dict:
            return self._dict(get_args(kind)[1], value, where)
        if is_dataclass(kind):
            return self._dataclass(cast(type, kind), value, where)
        return _scalar(kind, value, where)

    def _union(self, options: tuple[Any, ...], value: Any, where: str) -> Any:
        rest = [option for option in options if option is not type(None)]
        if value is None and len(rest) < len(options):
            return None
        if str in rest and isinstance(value, str):
            return value
        rest = [option for option in rest if option is not str] or rest
        if all(hasattr(option, "kind") for option in rest) and len(rest) > 1:
            return self._tagged(rest, value, where)
        return self.value(_fitting(rest, value), value, where)

    def _tagged(self, options: list[Any], value: Any, where: str) -> Any:
        """A table whose `kind` chooses among dataclasses."""
        known = {option.kind: option for option in options}
        table = _mapping(value, where)
        if "kind" not in table:
            raise UserError(f"{where} has no `kind`; give one of: {', '.join(known)}")
        tag = _literal(tuple(known), table["kind"], f"{where}.kind")
        return self.value(known[tag], table, f"{where} ({tag})")

    def _tuple(self, items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} is {_show(value)}; expected a list")
        if len(items) == 2 and items[1] is Ellipsis:
            return tuple(self.value(items[0], item, f"{where} {i}") for i, item in enumerate(value, start=1))
        if len(value) != len(items):
            raise UserError(f"{where} has {len(value)} values; expected {len(items)}")
        pairs = enumerate(zip(items, value, strict=True), start=1)
        return tuple(self.value(kind, item, f"{where} {i}") for i, (kind, item) in pairs)

    def _dict(self, kind: Any, value: Any, where: str) -> dict[str, Any]:
        return {key: self.value(kind, item, _join(where, key)) for key, item in _mapping(value, where).items()}

    def _dataclass(self, cls: type, value: Any, where: str) -> Any:
        if cls in self._shorthands:
            value = _placed(where, self._shorthands[cls], value)
        table, hints = _mapping(value, where), get_type_hints(cls)
        known = {key_of(f): f for f in fields(cls) if f.init}
        for key, item in table.items():
            if key == "kind" and key not in known and hasattr(cls, key):
                _literal((getattr(cls, key),), item, _join(where, key))
            elif key not in known:
                raise UserError(f"`{_join(where, key)}` is not a setting: {nearest(key, known)}")
        values: dict[str, Any] = {}
        for key, f in known.items():
            if key in table:
                values[f.name] = self.value(hints[f.name], table[key], _join(where, key))
            elif f.default is MISSING and f.default_factory is MISSING:
                _may_be_absent(hints[f.name], _join(where, key))
                values[f.name] = None
        return _placed(where, lambda given: cls(**given), values)


def _fitting(options: list[Any], value: Any) -> Any:
    """Of dataclasses without `kind`, the first that knows most keys of the table; of other types, the first."""
    keys = value.keys() if isinstance(value, Mapping) else set()
    records = [option for option in options if is_dataclass(option)]
    return max(records, key=lambda o: len(keys & {key_of(f) for f in fields(o)})) if records else options[0]


def _may_be_absent(hint: Any, where: str) -> None:
    """Only what may be None may be left out without a default, for TOML has no null."""
    if type(None) not in get_args(hint):
        raise UserError(f"`{where}` is missing; it has no default")


def _placed(where: str, make: Callable[[Any], Any], value: Any) -> Any:
    """make(value), with the place put before what it says of the value."""
    try:
        return make(value)
    except UserError as error:
        raise type(error)(f"{where}: {error}" if where else str(error)) from None


def _literal(options: tuple[Any, ...], value: Any, where: str) -> Any:
    for option in options:
        if type(value) is type(option) and value == option:
            return value
    wanted = ", ".join(_show(option) for option in options)
    hint = f" ({nearest(value, map(str, options))})" if isinstance(value, str) else ""
    raise UserError(f"{where} is {_show(value)}; expected one of: {wanted}{hint if 'did you' in hint else ''}")


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{where} is {_show(value)}; expected {NAMES[kind]}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{where} is {value}; expected a finite number")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where or 'this'} is {_show(value)}; expected a table")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _show(value: Any) -> str:
    """A value as TOML would write it, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
