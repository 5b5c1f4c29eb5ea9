// What serving and training come to, in the order in which one asks for it, and how each figure is written.
import { dollars, percent, seconds, short } from "../text/format";
import type { Kind } from "./state";
import type { Span } from "./wire";

export interface Measure {
  name: string;
  title: string;
  unit: string;
  write: (value: number) => string;
}

export const MEASURES: Record<Kind, Measure[]> = {
  serve: [
    { name: "user", title: "speed per user", unit: "tokens/s", write: short },
    { name: "chip", title: "speed per chip", unit: "tokens/s", write: short },
    { name: "rack", title: "speed per rack", unit: "tokens/s", write: short },
    { name: "ttft", title: "first token after", unit: "", write: wait },
    { name: "usd", title: "million tokens for", unit: "", write: money },
  ],
  train: [
    { name: "days", title: "time", unit: "", write: span },
    { name: "chip_hours", title: "chip-hours", unit: "h", write: short },
    { name: "usd", title: "price", unit: "", write: money },
    { name: "kwh", title: "energy", unit: "kWh", write: short },
    { name: "utilization", title: "share of the peak", unit: "", write: percent },
  ],
};

export function measure(kind: Kind, name: string): Measure {
  return MEASURES[kind].find((one) => one.name === name) ?? MEASURES[kind][0]!;
}

/** "45.3 tokens/s", with the unit where the figure does not carry it. */
export function told({ write, unit }: Measure, value: number): string {
  return unit ? `${write(value)} ${unit}` : write(value);
}

/** "speed per user, tokens/s" */
export function headed({ title, unit }: Measure): string {
  return unit ? `${title}, ${unit}` : title;
}

/** "38 to 53 tokens/s"; empty for what is known exactly. */
export function range(of: Measure, { low, high }: Span): string {
  return low === high ? "" : `${of.write(low)} to ${told(of, high)}`;
}

function wait(value: number): string {
  return value < 1 ? `${short(1000 * value)} ms` : seconds(value);
}

function money(value: number): string {
  return value < 1e4 ? dollars(value) : `$${short(value)}`;
}

/** Days as people count them: hours below two, years above three of those. */
function span(days: number): string {
  if (days < 2) return `${short(24 * days)} h`;
  return days < 1100 ? `${short(days)} days` : `${short(days / 365.25)} years`;
}
