"""Structured output: answers that follow a JSON schema or a regular expression, by llguidance (the extra `structured`).

The thinking is free; from `</think>` on, or from the first token of a model that does not think, only tokens that the
grammar allows are drawn, and the end only where the answer is complete. What a sequence has matched survives its being
put back to wait. A limit of tokens can still cut an answer: its finish_reason is then "length". Grammars in
llguidance's dialect of Lark are for what neither a schema nor an expression says, such as calls of tools.

Legend: Y vocabulary.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raison.errors import UserError
from raison.text.tokenizer import Tokenizer

Mask = NDArray[np.bool_]
KEPT = 64
"""Compiled grammars of an engine: requests with ever new ones take no more memory."""
FUEL = 20_000
"""Lexer's work for one token, in llguidance's units. Schemas with strings of 10,000 characters and enumerations of
20,000 take less; at its default a pattern such as `((a{1000}){1000}){100}` holds up everybody's tokens for seconds."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must look like."""

    kind: Literal["json_schema", "regex", "lark"]
    text: str

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any] | str) -> Grammar:
        """Raises UserError for text that is not JSON."""
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except ValueError as error:
                raise UserError(f"the JSON schema is not JSON: {error}") from None
        return cls("json_schema", json.dumps(schema, sort_keys=True))


class Matcher:
    """One answer on its way through a grammar."""

    def __init__(self, inner: Any, vocabulary: int, stops: frozenset[int]) -> None:
        self._inner, self._vocabulary, self._stops = inner, vocabulary, stops

    def allowed(self) -> Mask:
        """[Y]: what may come next; the end alone where nothing else can, or where the grammar became too large."""
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        mask = np.zeros(self._vocabulary, np.bool_)
        found = np.unpackbits(bits, bitorder="little")[: self._vocabulary]
        mask[: len(found)] = found
        if self._inner.is_error() or not mask.any():
            mask[list(self._stops)] = True
        return mask

    def take(self, token: int) -> None:
        self._inner.consume_token(token)


class Grammars:
    """An engine's grammars; those used last stay compiled."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._compiled: OrderedDict[Grammar, Any] = OrderedDict()
        self._theirs: Any = None

    def start(self, grammar: Grammar) -> Matcher:
        """A fresh matcher. Raises UserError for a grammar that cannot be used, and where llguidance is missing."""
        if grammar not in self._compiled:
            self._compiled[grammar] = self._compile(grammar)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return Matcher(self._compiled[grammar].deep_copy(), self._vocabulary, self._tokenizer.stops)

    def _compile(self, grammar: Grammar) -> Any:
        try:
            from llguidance import LLMatcher, LLParserLimits, LLTokenizer  # an extra
        except ImportError:
            raise UserError(
                "structured output needs the package llguidance: pip install 'raison[structured]'"
            ) from None
        if self._theirs is None:
            t = self._tokenizer
            self._theirs = LLTokenizer(t.backend.to_str(), n_vocab=t.size, eos_token=sorted(t.stops))
        try:
            if grammar.kind == "lark":
                text = LLMatcher.grammar_from_lark(grammar.text)
            elif grammar.kind == "regex":
                text = LLMatcher.grammar_from_regex(grammar.text)
            else:
                text = LLMatcher.grammar_from_json_schema(grammar.text)
        except ValueError as error:
            raise UserError(f"the {grammar.kind} cannot be used: {error}") from None
        matcher = LLMatcher(self._theirs, text, log_level=0, limits=LLParserLimits(step_lexer_fuel=FUEL))
        if matcher.is_error():
            reason = " ".join(str(matcher.get_error()).split())
            raise UserError(f"the {grammar.kind} cannot be used: {reason[:200]}")
        return matcher
