// Figures over users or tokens as the columns that a chart draws, and as the sentence that says the same.
import { type Measure, range, told } from "./measures";
import type { Answer, Span } from "./wire";

export interface Line {
  chip: string;
  spans: (Span | null)[];
}

/** One line a chip of the figure `name`, with a span (or none) at each of `xs`. */
export function lines(answers: Answer[], name: string, xs: number[]): Line[] {
  return answers.map(({ chip, curve }) => {
    const known = new Map(curve.map((point) => [point.at, point.figures[name] ?? null]));
    return { chip, spans: xs.map((x) => known.get(x) ?? null) };
  });
}

/** xs, then of each line its middle, its upper and its lower end. */
export function columns(xs: number[], all: Line[]): [number[], ...(number | null)[][]] {
  const ends = (["mid", "high", "low"] as const).map((end) => (span: Span | null) => span?.[end] ?? null);
  return [xs, ...all.flatMap(({ spans }) => ends.map((end) => spans.map(end)))];
}

/** What the chart shows, for those who hear it: each chip at the first and the last x, and at `now`. */
export function inWords(of: Measure, xs: number[], all: Line[], now: number, x: (value: number) => string): string {
  const at = [...new Set([xs[0]!, now, xs.at(-1)!])];
  const said = all.map(({ chip, spans }) => {
    const points = at.map((value) => ({ value, span: spans[xs.indexOf(value)] }));
    const parts = points.flatMap(({ value, span }) => (span ? [`${told(of, span.mid)} at ${x(value)}${hull(of, span)}`] : []));
    return `${chip}: ${parts.join(", ") || "no figure"}`;
  });
  return `${of.title}. ${said.join(". ")}.`;
}

function hull(of: Measure, span: Span): string {
  const between = range(of, span);
  return between && ` (${between})`;
}
