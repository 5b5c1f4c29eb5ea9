// A chunk of its own: KaTeX is a quarter of a megabyte that a page without formulas does not need.
import library from "katex";

export const katex = library;
