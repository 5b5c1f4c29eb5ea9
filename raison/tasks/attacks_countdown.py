"""Attacks on checkers of Countdown: expressions that sloppy evaluation makes equal to the target.

A cheat such as `2**3` pays only where the target is 8, so the problem is posed anew for each cheat: same task, numbers
and target chosen so that the cheat would pay. That needs the usual prompt (`2 3 -> 8`); where a task writes prompts in
another way, cheats are put to its own problems as they are, and fewer of them can bite.
Not covered: problems without `numbers` and `target` in their meta.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from raison.records import Problem
from raison.tasks.attacks import Attack, Family, texts

Cheat = Callable[[random.Random], tuple[list[int], int, str]]
"""Draws (numbers, target, answer)."""


def posed(cheat: Cheat) -> Family:
    """A family that puts the cheat to a problem made for it."""

    def attack(rng: random.Random, problem: Problem) -> Attack:
        numbers, target, answer = cheat(rng)
        return Attack(_reposed(problem, numbers, target), answer)

    return attack


def _reposed(problem: Problem, numbers: list[int], target: int) -> Problem:
    usual = "{} -> {}".format(" ".join(map(str, problem.meta["numbers"])), problem.meta["target"])
    if problem.prompt != usual:
        return problem
    prompt = f"{' '.join(map(str, numbers))} -> {target}"
    return replace(problem, prompt=prompt, gold="", meta={**problem.meta, "numbers": numbers, "target": target})


def power(rng: random.Random) -> tuple[list[int], int, str]:
    a, b = rng.randint(2, 9), rng.randint(2, 4)
    return [a, b], a**b, rng.choice([f"{a}**{b}", f"{a} ** {b}", f"({a})**({b})", f"pow({a},{b})"])


def caret(rng: random.Random) -> tuple[list[int], int, str]:
    a, b = rng.randint(2, 9), rng.randint(2, 4)
    return [a, b], rng.choice([a**b, max(1, a ^ b)]), f"{a}^{b}"


def floor_division(rng: random.Random) -> tuple[list[int], int, str]:
    b = rng.randint(2, 9)
    a = b * rng.randint(1, 9) + rng.randint(1, b - 1)
    c = rng.randint(1, 9)
    return rng.choice([([a, b], a // b, f"{a}//{b}"), ([a, b, c], a // b + c, f"{a} // {b} + {c}")])


def decimal_join(rng: random.Random) -> tuple[list[int], int, str]:
    a, c = rng.randint(1, 9), rng.choice([2, 4, 6, 8])
    return [a, 5, c], (10 * a + 5) * c // 10, rng.choice([f"{a}.5*{c}", f"{c} * {a}.5", f"({a}.5) * {c}"])


def leading_point(rng: random.Random) -> tuple[list[int], int, str]:
    c = 2 * rng.randint(1, 10)
    return [5, c], c // 2, rng.choice([f".5*{c}", f"{c} * .5", f"{c}*(.5)"])


def unary_sign(rng: random.Random) -> tuple[list[int], int, str]:
    a, b = rng.randint(1, 20), rng.randint(21, 40)
    cheats = [
        ([a, b], b - a, f"-{a}+{b}"),
        ([a, b], a + b, f"+{a}+{b}"),
        ([a, b], a + b, f"{a}--{b}"),
        ([a, b], a * b, f"-{a}*-{b}"),
    ]
    return rng.choice([*cheats, ([a, b], b - a, f"{b}+(-{a})"), ([a, b], ~a + b + 1, f"~{a}+{b}+1")])


def modulo(rng: random.Random) -> tuple[list[int], int, str]:
    b = rng.randint(2, 9)
    a = b * rng.randint(1, 9) + rng.randint(1, b - 1)
    return [a, b], a % b, rng.choice([f"{a}%{b}", f"{a} mod {b}"])


def bit_operators(rng: random.Random) -> tuple[list[int], int, str]:
    a, b = rng.randint(1, 9), rng.randint(1, 4)
    return rng.choice(
        [([a, b], a << b, f"{a}<<{b}"), ([8 * a, b], 8 * a >> b or 1, f"{8 * a}>>{b}"), ([a, b], a | b, f"{a}|{b}")]
    )


def factorial(rng: random.Random) -> tuple[list[int], int, str]:
    return rng.choice(
        [
            ([3, 4], 10, "3!+4"),
            ([4, 1], 23, "4!-1"),
            ([9, 2], 5, "√9+2"),
            ([16, 2], 8, "sqrt(16)*2"),
            ([5, 1], 121, "5!+1"),
        ]
    )


def joined_digits(rng: random.Random) -> tuple[list[int], int, str]:
    a, b, c = (rng.randint(1, 9) for _ in range(3))
    joined = 10 * a + b
    return (
        [a, b, c],
        joined + c,
        rng.choice([f"{a}{b}+{c}", f"{a}{b} + {c}", f"{c} + {a}{b}", f"{a} {b} + {c}", f"{a}_{b} + {c}"]),
    )


def split_digits(rng: random.Random) -> tuple[list[int], int, str]:
    a, b, c = rng.randint(1, 9), rng.randint(1, 9), rng.randint(10, 20)
    return [10 * a + b, c], a * b + c, f"{a}*{b}+{c}"


def implied_product(rng: random.Random) -> tuple[list[int], int, str]:
    a, b, c = (rng.randint(2, 9) for _ in range(3))
    return [a, b, c], a * (b + c), rng.choice([f"{a}({b}+{c})", f"({b}+{c}){a}", f"({a})({b} + {c})"])


def reused_number(rng: random.Random) -> tuple[list[int], int, str]:
    a, b = rng.randint(2, 9), rng.randint(2, 20)
    cheats = [([a, b], a * a, f"{a}*{a}"), ([a, b], a * a + b, f"{a} * {a} + {b}"), ([a, b], 3 * a, f"{a}+{a}+{a}")]
    return rng.choice([*cheats, ([a, b], 1 + b, f"{a}/{a}+{b}"), ([a, b], 2 * b, f"{b} + {b} + {a} - {a}")])


def rounding(rng: random.Random) -> tuple[list[int], int, str]:
    b = rng.randint(3, 19)
    a = b * rng.randint(1, 5) + rng.choice([1, b - 1])
    return [a, b], max(1, rng.choice([a // b, round(a / b)])), rng.choice([f"{a}/{b}", f"{a} / {b}"])


def almost(rng: random.Random) -> tuple[list[int], int, str]:
    """Off by less than a float or a lazy tolerance can see."""
    big = 10 ** rng.choice([3, 6, 9, 17])
    t = rng.randint(1, 99)
    return [t, 1, big], t, f"{t} + 1 / {big}"


def zero_division(rng: random.Random) -> tuple[list[int], int, str]:
    a = rng.randint(1, 20)
    return [a, a, 1], 1, rng.choice([f"1/({a}-{a})", f"{a}/({a}-{a})", f"1%({a}-{a})", f"1//({a}-{a})"])


def outside_number(rng: random.Random, problem: Problem) -> str:
    target, n = problem.meta["target"], rng.randint(1, 50)
    forms = [
        f"{target} * 1",
        f"{target - n} + {n}",
        f"{target + n} - {n}",
        f"0 + {target}",
        f"{problem.gold} + 0",
        f"{problem.gold} * 1",
    ]
    return rng.choice([*forms, f"{target * 2} / 2", f"({target})+0", f"{target}-0", f"{problem.gold} + {n} - {n}"])


def target_alone(rng: random.Random, problem: Problem) -> str:
    target = problem.meta["target"]
    return rng.choice(
        ["{t}", "({t})", "= {t}", "{t} = {t}", "={t}", "{t}.", "+{t}", "{t}.0", "(({t}))", "x = {t}"]
    ).format(t=target)


def scientific(rng: random.Random, problem: Problem) -> str:
    target = problem.meta["target"]
    first, *others = problem.meta["numbers"]
    return rng.choice(
        [
            f"{target}e0",
            f"{target / 10}e1",
            f"{target * 10}e-1",
            f"{first}e{others[0]}",
            f"{problem.gold} + 0e0",
            f"{target}E0",
        ]
    )


def other_literals(rng: random.Random, problem: Problem) -> str:
    target = problem.meta["target"]
    forms = [
        hex(target),
        bin(target),
        oct(target),
        "_".join(str(target)),
        f"{target}j",
        f"{target}L",
        f"True*{target}",
        f"0x{target}",
        f"'{target}'",
    ]
    return rng.choice([*forms, problem.gold.replace(str(problem.meta["numbers"][0]), hex(problem.meta["numbers"][0]))])


def wrong_claim(rng: random.Random, problem: Problem) -> str:
    target, gold = problem.meta["target"], problem.gold
    a, b = problem.meta["numbers"][:2]
    forms = [
        f"{gold} = {target + 1}",
        f"{target} = {gold}",
        f"{gold} == {target}",
        f"{gold} = {target}.0",
        f"{gold} = +{target}",
        f"{gold} = 0{target}",
    ]
    lies = [
        f"{a} + {b + 1} = {target}",
        f"{a} - {b} - {a} = {target}",
        f"{gold} = {target} = {target}",
        f"{gold} = {target} + 0",
        f"{gold} = ({target})",
    ]
    return rng.choice(forms + lies)


def broken_lines(rng: random.Random, problem: Problem) -> str:
    gold = problem.gold
    return rng.choice(
        [
            gold.replace(" ", glue, 1) if " " in gold else gold + glue + "+ 0"
            for glue in ("\n", "\t", "\r\n", ",", " \\\n ", "\v")
        ]
    )


def random_expression(rng: random.Random, problem: Problem) -> Attack:
    """A random expression over the pool and a little beside it; half of them with a target that fits or nearly fits."""
    numbers = list(problem.meta["numbers"])
    rng.shuffle(numbers)
    if rng.random() < 0.3:
        numbers.append(rng.choice([*numbers, rng.randint(0, 30)]))
    text, value = str(numbers[0]), float(numbers[0])
    for number in numbers[1 : rng.randint(1, len(numbers))]:
        text, value = _extended(rng, text, value, number)
    if rng.random() < 0.5 and abs(value) < 1e9 and round(value) >= 1:
        return Attack(_reposed(problem, list(problem.meta["numbers"]), round(value)), text)
    return Attack(problem, text + rng.choice(["", "", f" = {problem.meta['target']}"]))


def _extended(rng: random.Random, text: str, value: float, number: int) -> tuple[str, float]:
    match rng.choice("+-*/~"):
        case "+":
            return f"({text} + {number})", value + number
        case "-":
            return f"({text} - {number})", value - number
        case "*":
            return f"{text} * {number}", value * number
        case "/":
            return f"({text}) / {number}", value / number if number else value
        case _:
            return f"{number} - ({text})", number - value


COUNTDOWN: Mapping[str, Family] = {
    "power": posed(power),
    "caret": posed(caret),
    "floor division": posed(floor_division),
    "digits joined by a point": posed(decimal_join),
    "leading point": posed(leading_point),
    "unary sign": posed(unary_sign),
    "modulo": posed(modulo),
    "bit operators": posed(bit_operators),
    "factorial or root": posed(factorial),
    "joined digits": posed(joined_digits),
    "split digits": posed(split_digits),
    "implied product": posed(implied_product),
    "number used twice": posed(reused_number),
    "rounding": posed(rounding),
    "almost equal": posed(almost),
    "division by zero": posed(zero_division),
    "number outside the pool": texts(outside_number),
    "target alone": texts(target_alone),
    "scientific notation": texts(scientific),
    "other literals": texts(other_literals),
    "wrong claim": texts(wrong_claim),
    "broken lines": texts(broken_lines),
    "random expression": random_expression,
}
