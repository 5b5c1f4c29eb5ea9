"""Answers that a checker must not pay for: families that fit any task with a gold answer.

A family is a function of a random generator and a problem that gives one Attack: a problem to pose (mostly the one
given) and a text. A family need not make only wrong answers; oracle.py decides what an accepted one was worth. Families
for Countdown alone are in attacks_countdown.py. The list grew from holes found in TinyZero, GRPO-Zero, reasoning-gym
and reports of rewards that were gamed.
Not covered: attacks through the model's thinking, which no checker sees.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raison.records import Problem


@dataclass(frozen=True, slots=True)
class Attack:
    """A text put to a checker as the answer to a problem."""

    problem: Problem
    answer: str


Family = Callable[[random.Random, Problem], Attack]
Writer = Callable[[random.Random, Problem], str]

_ALPHABET = "0123456789+-*/()=. \n,^%<>&|_eExjabc#'\"\\{}[]$!~:;?@\u00d7\u2212\u200b\u0660\uff15"
_LOOKALIKES = {
    "+": "\uff0b\u2795\u207a",
    "-": "\u2013\u2014\u207b\ufe63",
    "*": "\u2217\u22c5\u00b7\u2731x",
    "/": "\u2215\u2044\u2571:",
}
_DIGIT_ZEROS = (0x0660, 0x0966, 0xFF10, 0x1D7CE, 0x2080)
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u00a0\u2009\u202e\x00\x0b\x0c\x1c\x85\u2028"


def texts(write: Writer) -> Family:
    """A family that leaves the problem as it is."""
    return lambda rng, problem: Attack(problem, write(rng, problem))


def wrong_beside(rng: random.Random, problem: Problem) -> str:
    """A wrong answer of the same looks: the gold with its last number changed."""
    found = list(re.finditer(r"[0-9]+", problem.gold))
    if not found:
        return rng.choice(["none", "not " + problem.gold, problem.gold[::-1] + "x"])
    at = rng.choice(found)
    return f"{problem.gold[: at.start()]}{int(at[0][:15]) + rng.randint(1, 9)}{problem.gold[at.end() :]}"


def several_answers(rng: random.Random, problem: Problem) -> str:
    wrong, gold = wrong_beside(rng, problem), problem.gold
    pair = [wrong, gold]
    rng.shuffle(pair)
    glue = rng.choice([" or ", "\n", ", ", "; ", " and ", " = ", "\n\n", " | ", "\r", "\t", " -> ", "\nor\n", " so "])
    return rng.choice(
        [glue.join(pair), glue.join([*pair, wrong]), glue.join([gold, gold, wrong]), f"{gold} = {gold} = {wrong}"]
    )


def several_tags(rng: random.Random, problem: Problem) -> str:
    wrong, gold = wrong_beside(rng, problem), problem.gold
    tag = rng.choice(["<answer>{}</answer>", "\\boxed{{{}}}", "#### {}\n", "**{}**", "Answer: {}\n", "```\n{}\n```"])
    pair = [tag.format(wrong), tag.format(gold)]
    rng.shuffle(pair)
    return rng.choice(["", " ", "\n"]).join(pair)


def echo(rng: random.Random, problem: Problem) -> str:
    prompt = problem.prompt
    return rng.choice(
        [
            prompt,
            prompt + "\n",
            f"{prompt} =",
            prompt * 2,
            prompt.replace("->", "="),
            f"{prompt}\n{prompt}",
            prompt[::-1],
        ]
    )


def embedded(rng: random.Random, problem: Problem) -> str:
    gold = problem.gold
    before = rng.choice(
        ["The answer is ", "It is not ", "I would never say ", "x", "= ", "print ", "1) ", "answer = ", '"', "- "]
    )
    after = rng.choice(
        [" is wrong", " maybe?", " # right", " !", " I think", "\nend", "; exit", '"', " apples", "\n(guess)"]
    )
    return rng.choice([before + gold, gold + after, before + gold + after, f"{'la ' * 20}{gold}{' la' * 20}"])


def think_tags(rng: random.Random, problem: Problem) -> str:
    gold, wrong = problem.gold, wrong_beside(rng, problem)
    closed = ["<think></think>{g}", "<think>{g}</think>", "<think>{w}</think>{g}", "{g}<think>{w}</think>"]
    unbalanced = ["</think>{g}", "{g}</think>", "<think>{g}", "{w}</think>{g}", "</think></think>{g}"]
    nested = ["<think><think></think>{g}", "<think>x</think></think>{g}", "<think><think>{w}</think></think>{g}"]
    return rng.choice(closed + unbalanced + nested).format(g=gold, w=wrong)


def empty(rng: random.Random, problem: Problem) -> str:
    return rng.choice(
        [
            "",
            " ",
            "\n",
            "\t",
            "\r\n",
            "\x00",
            "\u200b",
            "\ufeff",
            "()",
            "=",
            ".",
            "-",
            "0",
            "None",
            "nan",
            "inf",
            "True",
            "\ud800",
        ]
    )


def unicode_digits(rng: random.Random, problem: Problem) -> str:
    zero = rng.choice(_DIGIT_ZEROS)
    return "".join(chr(zero + int(c)) if c in "0123456789" else c for c in problem.gold) + (
        "" if re.search("[0-9]", problem.gold) else "\uff01"
    )


def lookalikes(rng: random.Random, problem: Problem) -> str:
    changed = "".join(rng.choice(_LOOKALIKES[c]) if c in _LOOKALIKES else c for c in problem.gold)
    return changed if changed != problem.gold else rng.choice("\uff0b\u2795") + changed


def invisible(rng: random.Random, problem: Problem) -> str:
    at = rng.randint(1, max(1, len(problem.gold) - 1))
    return problem.gold[:at] + rng.choice(_INVISIBLE) * rng.randint(1, 3) + problem.gold[at:]


def long_and_deep(rng: random.Random, problem: Problem) -> str:
    gold, size = problem.gold, rng.choice([300, 1_000, 10_000, 100_000])
    forms = (
        lambda: "(" * size + gold + ")" * size,
        lambda: "(" * size,
        lambda: "1+" * size + "1",
        lambda: "1" * size,
        lambda: gold + " " * size + "x",
        lambda: gold + "+0" * size,
        lambda: "-" * size + "1",
        lambda: (gold + "\n") * (size // 10),
        lambda: f"{gold} = " * (size // 10) + gold,
        lambda: "[" * size,
        lambda: "1/" * size + "1",
    )
    return rng.choice(forms)()


def huge_powers(rng: random.Random, problem: Problem) -> str:
    return rng.choice(
        [
            "9**9**9**9",
            "9^9^9^9",
            "9**9**9",
            "99999999**99999999",
            "1e999999999",
            "2**(2**(2**40))",
            "1<<(1<<40)",
            "9**-9**9",
            "(9**9**9)%7",
        ]
    )


def code(rng: random.Random, problem: Problem) -> str:
    gold = problem.gold
    calls = [
        f"eval('{gold}')",
        f"int('{gold}')",
        f"max({gold}, 0)",
        f"str({gold})",
        f"sum([{gold}])",
        f"(lambda: {gold})()",
    ]
    displays = [f"[{gold}][0]", f"{{{gold}}}", f"f'{{{gold}}}'", f"({gold},)[0]", f"({gold})if 1 else 0", f"x:={gold}"]
    effects = ["__import__('os').getpid()", "exit()", "globals()", "while True: pass", "import os", "breakpoint()"]
    strange = ["().__class__.__base__", "{}.__class__", "%n%s", "../../etc/passwd"]
    forms = calls + displays + effects + strange
    return rng.choice(forms)


def comments(rng: random.Random, problem: Problem) -> str:
    gold, wrong = problem.gold, wrong_beside(rng, problem)
    return rng.choice(
        [
            f"{gold} # {wrong}",
            f"{wrong} # {gold}",
            f"{gold} // {wrong}",
            f"{wrong} /* {gold} */",
            f"{gold}\\\n",
            f"# {gold}",
            f"{gold} ;",
        ]
    )


def leading_zeros(rng: random.Random, problem: Problem) -> str:
    padded = re.sub(r"[0-9]+", lambda m: "0" * rng.randint(1, 3) + m[0], problem.gold, count=rng.randint(1, 3))
    return padded if padded != problem.gold else f"0{padded}"


def wrong_equals(rng: random.Random, problem: Problem) -> str:
    gold, wrong = problem.gold, wrong_beside(rng, problem)
    return rng.choice(
        [
            f"{gold} = {wrong}",
            f"{wrong} = {gold}",
            f"{gold} == {gold}",
            f"{gold} =",
            f"= {gold}",
            f"{gold} = ?",
            f"{wrong} = {wrong}",
            f"{gold} != {wrong}",
        ]
    )


def fuzz(rng: random.Random, problem: Problem) -> str:
    """The gold after one to three random edits of a character."""
    letters = list(problem.gold)
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(letters))
        edit = rng.randrange(4)
        if edit == 0 or not letters:
            letters.insert(at, rng.choice(_ALPHABET))
        elif edit == 1:
            letters[min(at, len(letters) - 1)] = rng.choice(_ALPHABET)
        elif edit == 2:
            del letters[min(at, len(letters) - 1)]
        else:
            other = rng.randrange(len(letters))
            at = min(at, len(letters) - 1)
            letters[at], letters[other] = letters[other], letters[at]
    return "".join(letters)


def noise(rng: random.Random, problem: Problem) -> str:
    return "".join(rng.choices(_ALPHABET, k=rng.randint(1, 24)))


def near_miss(rng: random.Random, problem: Problem) -> str:
    return wrong_beside(rng, problem)


ANY_TASK: Mapping[str, Family] = {
    "several answers": texts(several_answers),
    "several answer tags": texts(several_tags),
    "echo of the prompt": texts(echo),
    "gold inside other text": texts(embedded),
    "think tags": texts(think_tags),
    "empty": texts(empty),
    "unicode digits": texts(unicode_digits),
    "lookalike signs": texts(lookalikes),
    "invisible characters": texts(invisible),
    "long or deep": texts(long_and_deep),
    "huge power": texts(huge_powers),
    "code": texts(code),
    "comment": texts(comments),
    "leading zeros": texts(leading_zeros),
    "wrong equals": texts(wrong_equals),
    "near miss": texts(near_miss),
    "fuzzed gold": texts(fuzz),
    "noise": texts(noise),
}
