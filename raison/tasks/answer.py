"""Reading answers: the arithmetic grammar of Countdown, and comparison of numbers and texts.

The grammar is our own, so that nothing of Python's leaks into what is paid for:

    expression := term (("+" | "-") term)*
    term       := atom (("*" | "/") atom)*
    atom       := number | "(" expression ")"
    number     := "0" | [1-9][0-9]*                ASCII digits only

Only the ASCII space may stand between tokens. The display signs × ÷ − are read as * / -, since many models write them
and none of them can mean anything else; the middle dot is refused because it can also be read as a decimal point. There
is no sign, no point, no power, no integer division. Values are exact fractions, and because an expression has at most
256 characters no value has more than 256 digits.

Not covered: algebra, units, percentages, LaTeX beyond one `\\boxed{}` around the whole answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 256
MAX_DEPTH = 32
MAX_NUMBER_CHARS = 64

BLANKS = " \t\r\n"
_TOKEN = re.compile(r" *(?:([0-9]+)|([-+*/()]))")
_DISPLAY_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-"})
_PRECEDENCE = {"(": 0, ")": 1, "+": 1, "-": 1, "*": 2, "/": 2}
_WRAPPERS = (re.compile(r"\\boxed\{([^{}]*)\}"), re.compile(r"<answer>([^<>]*)</answer>"))
_INTEGER = r"(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)"
_NUMBER = re.compile(rf"([-+−]?)\$?({_INTEGER})(?:\.([0-9]+)|/([1-9][0-9]*))?")


class NotAnExpression(ValueError):
    """The text is outside the grammar; the message is a short clause that becomes the reason of a Verdict."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What an arithmetic expression comes to, and the numbers written in it, in order."""

    value: Fraction
    numbers: tuple[int, ...]


class _Reader:
    """The shunting-yard method: two stacks, no recursion. Values are (numerator, denominator), not reduced."""

    def __init__(self) -> None:
        self.values: list[tuple[int, int]] = []
        self.operators: list[str] = []
        self.numbers: list[int] = []
        self.depth = 0
        self.wants_operand = True

    def number(self, digits: str) -> None:
        self._operand_comes(digits)
        if digits[0] == "0" and digits != "0":
            raise NotAnExpression(f"{digits[:12]} has a leading zero")
        self.numbers.append(int(digits))
        self.values.append((self.numbers[-1], 1))
        self.wants_operand = False

    def sign(self, sign: str) -> None:
        if sign == "(":
            self._operand_comes(sign)
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotAnExpression(f"parentheses are nested more than {MAX_DEPTH} deep")
            self.operators.append(sign)
            return
        if self.wants_operand:
            raise NotAnExpression(f"a number is missing before {sign}")
        self._reduce(_PRECEDENCE[sign])
        if sign != ")":
            self.operators.append(sign)
            self.wants_operand = True
        elif not self.depth:
            raise NotAnExpression("a parenthesis is closed that was never opened")
        else:
            self.depth -= 1
            self.operators.pop()

    def end(self) -> Expression:
        if self.wants_operand:
            raise NotAnExpression("it ends where a number should be" if self.operators else "it is empty")
        if self.depth:
            raise NotAnExpression("a parenthesis is not closed")
        self._reduce(_PRECEDENCE[")"])
        return Expression(Fraction(*self.values[0]), tuple(self.numbers))

    def _operand_comes(self, token: str) -> None:
        if not self.wants_operand:
            raise NotAnExpression(f"an operator is missing before {token[:12]}")

    def _reduce(self, floor: int) -> None:
        """Apply waiting operators that bind at least as tightly as `floor`, back to the nearest open parenthesis."""
        while self.operators and _PRECEDENCE[self.operators[-1]] >= floor:
            self._apply(self.operators.pop())

    def _apply(self, operator: str) -> None:
        c, d = self.values.pop()
        a, b = self.values.pop()
        if operator == "+":
            self.values.append((a * d + c * b, b * d))
        elif operator == "-":
            self.values.append((a * d - c * b, b * d))
        elif operator == "*":
            self.values.append((a * c, b * d))
        elif c == 0:
            raise NotAnExpression("it divides by zero")
        else:
            self.values.append((a * d, b * c))


def parse_expression(text: str) -> Expression:
    """Read and evaluate one expression of the grammar above.

    Raises NotAnExpression for everything else. Linear in the length of at most 256 characters, without recursion.
    """
    if len(text) > MAX_CHARS:
        raise NotAnExpression(f"it is longer than {MAX_CHARS} characters")
    if not text.isascii():
        text = text.translate(_DISPLAY_SIGNS)
    text = text.strip(" ")
    reader = _Reader()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotAnExpression(f"{text[position:].lstrip(' ')[0]!a} is not part of an expression")
        digits, sign = match.groups()
        if digits is None:
            reader.sign(sign)
        else:
            reader.number(digits)
        position = match.end()
    return reader.end()


def unwrap(text: str) -> str:
    r"""The text without surrounding blanks and without one `\boxed{}` or `<answer></answer>` around the whole of it."""
    text = text.strip(BLANKS)
    for wrapper in _WRAPPERS:
        match = wrapper.fullmatch(text)
        if match:
            return match[1].strip(BLANKS)
    return text


def parse_number(text: str) -> Fraction | None:
    """The number that the whole text is, or None: `-12`, `1,234`, `$5`, `0.50`, `3/4`. At most 64 characters.

    Leading zeros, exponents, digits of other scripts, misplaced commas and anything beside the number give None.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, decimals, denominator = match.groups()
    value = Fraction(int(whole.replace(",", "")), int(denominator or 1))
    if decimals:
        value += Fraction(int(decimals), 10 ** len(decimals))
    return -value if sign in ("-", "−") else value


def same_number(answer: str, gold: str) -> str:
    """The named checker `number`: an empty string where both are the same number, else why not."""
    expected, given = parse_number(unwrap(gold)), parse_number(unwrap(answer))
    assert expected is not None, f"gold is not a number: {gold!r}"
    if given is None:
        return "the answer is not one plain number"
    return "" if given == expected else "another number than expected"


def same_text(answer: str, gold: str) -> str:
    """The named checker `exact`: an empty string where both texts are equal up to runs of blanks, else why not."""
    if len(answer) > len(gold) + MAX_CHARS:
        return "the answer is much longer than expected"
    return "" if _blanks_folded(answer) == _blanks_folded(gold) else "another text than expected"


def _blanks_folded(text: str) -> str:
    return re.sub(rf"[{BLANKS}]+", " ", text).strip(" ")
