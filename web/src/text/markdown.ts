// Markdown to HTML, safe by construction: HTML in the source is shown as text, pictures become their links.
// Formulas between $ $, $$ $$, \( \) and \[ \] are left as elements of class "tex" for typeset.ts.
import MarkdownIt from "markdown-it";

const FENCES: [open: string, close: string, kind: "inline" | "block"][] = [
  ["\\[", "\\]", "block"],
  ["\\(", "\\)", "inline"],
  ["$$", "$$", "block"],
  ["$", "$", "inline"],
];

const markdown = new MarkdownIt({ html: false, breaks: true, linkify: false });
markdown.disable("image");
markdown.block.ruler.before("fence", "tex", display, { alt: ["paragraph", "list", "blockquote"] });
markdown.inline.ruler.before("escape", "tex", formula);
markdown.inline.ruler.before("emphasis", "times", times);
markdown.renderer.rules["tex"] = holder;
markdown.renderer.rules["link_open"] = (tokens, index, options, _, self) => {
  tokens[index]!.attrSet("rel", "noopener noreferrer");
  tokens[index]!.attrSet("target", "_blank");
  return self.renderToken(tokens, index, options);
};

/** Text in which nothing but formulas means anything. */
const plain = new MarkdownIt("zero");
plain.inline.ruler.before("text", "tex", formula);
plain.inline.ruler.enable("tex");
plain.renderer.rules["tex"] = holder;

export function toHtml(source: string): string {
  return markdown.render(source);
}

export function plainToHtml(source: string): string {
  return plain.renderInline(source);
}

type Rule = Parameters<typeof markdown.inline.ruler.push>[1];
type State = Parameters<Rule>[0];
type BlockState = Parameters<Parameters<typeof markdown.block.ruler.push>[1]>[0];

function holder(tokens: { content: string; markup: string }[], index: number): string {
  const { content, markup } = tokens[index]!;
  const source = markdown.utils.escapeHtml(content);
  return `<span class="tex" data-display="${markup === "block"}">${source}</span>`;
}

/** A formula on lines of its own: what it holds is not Markdown, even if a line of it begins with a minus. */
function display(state: BlockState, line: number, endLine: number, silent: boolean): boolean {
  const start = state.bMarks[line]! + state.tShift[line]!;
  const fence = FENCES.find(([open, , kind]) => kind === "block" && state.src.startsWith(open, start));
  if (!fence) return false;
  const [open, close] = fence;
  const to = state.src.indexOf(close, start + open.length);
  const last = range(line, endLine).find((n) => to >= 0 && state.eMarks[n]! >= to + close.length);
  if (last === undefined || state.src.slice(to + close.length, state.eMarks[last]).trim()) return false;
  if (silent) return true;
  const token = state.push("tex", "", 0);
  token.content = state.src.slice(start + open.length, to).trim();
  token.markup = "block";
  token.map = [line, last + 1];
  state.line = last + 1;
  return true;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

function formula(state: State, silent: boolean): boolean {
  const fence = FENCES.find(([open]) => state.src.startsWith(open, state.pos));
  if (!fence) return false;
  const [open, close, kind] = fence;
  const from = state.pos + open.length;
  const to = state.src.indexOf(close, from);
  if (to <= from || to >= state.posMax + 1) return false;
  const source = state.src.slice(from, to);
  if (open === "$" && !isFormula(source, state.src[to + 1])) return false;
  if (!silent) {
    const token = state.push("tex", "", 0);
    token.content = source.trim();
    token.markup = kind;
  }
  state.pos = to + close.length;
  return true;
}

/** "$5 and $6" are prices: a formula touches both of its signs, and no figure follows it (pandoc's rule). */
function isFormula(source: string, next: string | undefined): boolean {
  return !/^\s|\s$|`|\n\n/.test(source) && !/\d/.test(next ?? "");
}

/** 3*7*25 is a product; Markdown would set the 7 in italics. */
function times(state: State, silent: boolean): boolean {
  const stars = /^\*+(?=[\d(])/.exec(state.src.slice(state.pos, state.pos + 4))?.[0];
  if (!stars || !/[\d)]/.test(state.src[state.pos - 1] ?? "")) return false;
  if (!silent) state.pending += stars;
  state.pos += stars.length;
  return true;
}
