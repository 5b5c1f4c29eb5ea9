// What the planner's API says (raison/serve/plan_view.py). Rates are per second, money in dollars, memory in bytes.

/** A figure with the range that holds the truth four times in five. */
export interface Span {
  low: number;
  mid: number;
  high: number;
}

export type Figures = Record<string, Span | null>;

export interface Part {
  name: string;
  value: number;
}

export interface ChipChoice {
  name: string;
  kind: string;
  memory_gb: number | null;
  bandwidth_gbps: number | null;
  usd_per_hour: number | null;
  price_note: string;
  source: string;
}

export interface ModelChoice {
  name: string;
  total: number;
  active: number;
  source: string;
}

export interface Choices {
  chips: ChipChoice[];
  models: ModelChoice[];
  precisions: string[];
}

/** What serving or training comes to on one kind of chip. */
export interface Answer {
  model: string;
  chip: string;
  chips: number;
  precision: string;
  layout: string;
  verdict: "feasible" | "saturated" | "infeasible" | "unknown";
  words: string[];
  figures: Figures | null;
  memory: { parts: Part[]; total: number | null };
  bound: Part[];
  curve: { at: number; figures: Figures }[];
  assumptions: string[];
}
