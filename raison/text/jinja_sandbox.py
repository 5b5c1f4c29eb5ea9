"""Jinja for strangers' templates: everything a template does passes a place that counts.

Jinja's own sandbox keeps a template from Python's insides, but not from `'a' * 10**10` or an endless loop. Here the
template's tree is rewritten before it is compiled (jinja_tree.py), so that what would become plain Python goes through
hidden filters; operators, calls, filters and tests are intercepted. Each looks at the clock, and what could grow is
measured before it is made (budget.py). All in this thread: no signal, tracing or process.

Filters, methods and global functions are lists of what is allowed; all that published chat templates use is there.

Not covered: include, import, extends, blocks and autoescape; other filters; compiling, which only the length of the
source bounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from raison.text.budget import ELEMENT, MAX_DEPTH, MAX_WEIGHT, Budget, TooMuch, paid
from raison.text.jinja_tree import CONCAT, MADE, TICK, WRITE, Generation, rewritten

MAX_NAME = 1000
MAX_ARGUMENT = 100_000


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILTERS = _names(
    "abs capitalize count d default dictsort e escape first float format indent int items join last length list lower "
    "map max min reject rejectattr replace reverse round safe select selectattr sort string sum title trim unique upper"
)
WRITING = _names("capitalize e escape format indent lower replace safe string title trim upper")
WRITING_TESTS = _names("lower upper")
ITERATING = _names("dictsort list map max min reject rejectattr reverse select selectattr sort sum unique")
METHODS: Mapping[type, frozenset[str]] = {
    str: _names(
        "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower "
        "isnumeric isprintable isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace "
        "rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
    ),
    dict: _names("copy get items keys values"),
    list: _names("copy count index"),
    tuple: _names("count index"),
}
QUADRATIC = _names("lstrip rfind rindex rpartition rsplit rstrip strip")
HIDDEN_ARGUMENTS = ("_loop_vars", "_block_vars")


class Refused(TemplateRuntimeError):
    """The template itself called `raise_exception`."""


class SafeNamespace(Namespace):
    """No names that mean something to Python."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"a template cannot store {name!r} in a namespace")
        super().__setitem__(name, value)


class Environment(ImmutableSandboxedEnvironment):
    """Set up as transformers does. `budget` must be set anew for each rendering; one rendering at a time."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], optimized=False, cache_size=0
        )
        self.budget = Budget()
        self._depth = 0
        self.globals = {"range": self.globals["range"], **self._functions()}
        self._own = set(map(id, self.globals.values()))
        self.filters = {name: self._filter(name, func) for name, func in self.filters.items() if name in FILTERS}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: self._test(name, func) for name, func in tests.items()}
        self.filters |= self._hidden()

    def _functions(self) -> dict[str, Callable[..., Any]]:
        def raise_exception(message: Any = "") -> None:
            raise Refused(self.budget.write(message)[:MAX_NAME])

        def strftime_now(pattern: str) -> str:
            self.budget.room(len(pattern), MAX_NAME)
            return datetime.now().strftime(pattern)

        def make_dict(pairs: Any = (), /, **kwargs: Any) -> dict[Any, Any]:
            return {**paid(pairs, self.budget), **kwargs}

        def namespace(pairs: Any = (), /, **kwargs: Any) -> Namespace:
            made = SafeNamespace()
            for name, value in make_dict(pairs, **kwargs).items():
                made[name] = value
            return made

        return {
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
            "dict": make_dict,
            "namespace": namespace,
        }

    def _hidden(self) -> dict[str, Callable[..., Any]]:
        """All take the context, so that nothing is computed while compiling."""

        @pass_context
        def write(_: Context, value: Any) -> str:
            return self.budget.write(value)

        @pass_context
        def tick(_: Context, value: Any) -> Any:
            self.budget.tick()
            return value

        @pass_context
        def made(_: Context, value: Any) -> Any:
            self.budget.tick()
            return self.budget.made(value)

        @pass_context
        def concat(_: Context, values: Sequence[Any]) -> str:
            self.budget.tick()
            return str(self.budget.made("".join(map(str, self.budget.joined("", values)))))

        @pass_context
        def tojson(
            _: Context, x: Any, ensure_ascii: Any = False, indent: Any = None, separators: Any = None,
            sort_keys: Any = False,
        ) -> str:  # fmt: skip
            self.budget.weigh(x)
            self.budget.room(len(indent) if isinstance(indent, str) else indent or 0, MAX_DEPTH)
            encoder = json.JSONEncoder(
                ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
            )
            return "".join(self._counted(encoder.iterencode(x)))

        return {WRITE: write, TICK: tick, MADE: made, CONCAT: concat, "tojson": tojson}

    def _counted(self, parts: Iterator[str]) -> Iterator[str]:
        total = 0
        for part in self.budget.each(parts):
            total += len(part)
            self.budget.room(total)
            self.budget.spend(len(part))
            yield part

    def _filter(self, name: str, func: Callable[..., Any]) -> Callable[..., Any]:
        """A filter of Jinja's that pays before and after."""
        wants = getattr(func, "jinja_pass_arg", None)

        @pass_context
        def paying(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
            self.budget.tick()
            lead = {"context": context, "eval_context": context.eval_ctx, "environment": self}
            value = self._before_filter(name, value, args, kwargs)
            result = func(*([lead[wants.name]] if wants else ()), value, *args, **kwargs)
            return self.budget.made(result, value, *args, *kwargs.values())

        return paying

    def _test(self, name: str, func: Callable[..., Any]) -> Callable[..., Any]:
        wants = getattr(func, "jinja_pass_arg", None)

        @pass_context
        def paying(_: Context, value: Any, *args: Any) -> Any:
            self.budget.tick()
            if name in WRITING_TESTS:
                self.budget.writable(value)
            return func(*([self] if wants else ()), value, *args)

        return paying

    def _before_filter(self, name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        budget = self.budget
        given = (*args, *kwargs.values())
        if name in WRITING:
            for text in (value, *given):
                budget.writable(text)
        if name in ITERATING:
            budget.spend(ELEMENT * len(value) if isinstance(value, str) else 0)
            budget.room(max((len(text) for text in given if isinstance(text, str)), default=0), MAX_ARGUMENT)
        check = getattr(self, f"_before_{name}", None)
        return check(value, *args, **kwargs) if check else value

    def _before_join(self, value: Any, d: Any = "", attribute: Any = None) -> Any:
        budget = self.budget
        budget.room(len(attribute) if isinstance(attribute, str) else 0, MAX_NAME)
        items = budget.collect(value)
        budget.writable(d)
        budget.room(len(str(d)) * len(items) + sum(map(budget.writable, items)))
        return items

    def _before_replace(self, s: Any, old: Any, new: Any, count: Any = None) -> Any:
        self.budget.replaced(str(s), str(old), str(new))
        return s

    def _before_format(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        self.budget.formatted(str(value), kwargs or args)
        return value

    def _before_trim(self, value: Any, chars: Any = None) -> Any:
        self.budget.searched(str(value), chars)
        return value

    def _before_indent(self, s: Any, width: Any = 4, first: Any = False, blank: Any = False) -> Any:
        wide = len(width) if isinstance(width, str) else abs(width)
        self.budget.room(len(str(s)) + (1 + len(str(s).splitlines())) * wide)
        return s

    def _before_round(self, value: Any, precision: Any = 0, method: Any = "common") -> Any:
        self.budget.room(abs(precision), MAX_DEPTH)
        return value

    def _before_int(self, value: Any, default: Any = 0, base: Any = 10) -> Any:
        self.budget.room(len(value) if isinstance(value, str) else 0, MAX_NAME)
        return value

    def _before_sum(self, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
        if not isinstance(start, int | float):
            raise SecurityError("sum adds numbers only")
        return iterable

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = self.budget
        budget.tick()
        budget.number(left)
        budget.number(right)
        if operator == "*":
            budget.repeated(left, right)
        elif operator == "**":
            budget.raised(left, right)
        elif operator == "%" and isinstance(left, str):
            budget.formatted(left, right)
        return budget.made(self.binop_table[operator](left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = __self.budget
        budget.tick()
        given = [*args, *(value for name, value in kwargs.items() if name not in HIDDEN_ARGUMENTS)]
        budget.room(sum(budget.weigh(value) for value in given if not isinstance(value, Namespace)), MAX_WEIGHT)
        args = __self._before_call(__obj, args, kwargs)
        with __self._deeper():
            return budget.made(super().call(__context, __obj, *args, **kwargs))

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise TooMuch(f"macros call each other more than {MAX_DEPTH} deep")
            yield
        finally:
            self._depth -= 1

    def _before_call(self, obj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments to call with; raises SecurityError for what is not allowed."""
        if isinstance(obj, Macro | LoopContext | Undefined | BracedFormat) or id(obj) in self._own:
            return args
        if isinstance(obj, BuiltinMethodType | MethodType):
            owner, name = obj.__self__, obj.__name__
            if isinstance(owner, LoopContext) and name in ("cycle", "changed"):
                return args
            kind = next((kind for kind in METHODS if isinstance(owner, kind)), None)
            if kind is not None and name in METHODS[kind]:
                return self._before_method(owner, name, args, kwargs) if isinstance(owner, str) else args
        raise SecurityError(f"a template cannot call {getattr(obj, '__name__', type(obj).__name__)}")

    def _before_method(self, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        first = args[0] if args else None
        if name in QUADRATIC:
            self.budget.searched(text, first if args else kwargs.get("sep"))
        if name in ("split", "rsplit"):
            self.budget.divided(text, first if args else kwargs.get("sep"))
        elif name == "splitlines":
            self.budget.divided(text, None)
        elif name == "replace" and len(args) > 1:
            self.budget.replaced(text, first, args[1])
        elif name == "join" and args:
            return (self.budget.joined(text, args[0]), *args[1:])
        return args

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's safe `str.format`, measured."""
        wrapped = super().wrap_str_format(value)
        return wrapped and BracedFormat(self, value.__self__, wrapped)


class BracedFormat:
    """`'...'.format` as a template sees it."""

    def __init__(self, environment: Environment, text: str, inner: Callable[..., str]) -> None:
        self._environment, self._text, self._inner = environment, text, inner

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self._environment.budget.braced(self._text, [args, kwargs])
        return self._inner(*args, **kwargs)


def compiled(environment: Environment, source: str) -> Template:
    """The template of `source`. Raises what Jinja raises for what it cannot read."""
    return environment.from_string(rewritten(environment.parse(source), environment))
