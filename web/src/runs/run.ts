// A training run as the API tells it (raison/serve/run_view.py), and what is known joined with what is new.

export type Step = Record<string, number | string | null> & { step: number };

export interface RunSummary {
  name: string;
  recipe: string;
  task: string;
  state: "running" | "stopped" | "finished";
  started: string;
  updated: number;
  stage: string;
  step: number;
  total: number;
}

export interface Stage {
  name: string;
  kind: string;
  control: boolean;
  state: "waiting" | "active" | "done";
  step: number;
  total: number;
  tokens: number;
  seconds: number;
  predicted_seconds: number | null;
  accuracy: { value: number; low: number; high: number; count: number } | null;
}

export interface Sample {
  step: number;
  prompt: string;
  thinking: string;
  answer: string;
  correct: boolean;
  reason: string;
  reward: number;
  tokens: number;
  thinking_tokens: number;
  truncated: boolean;
}

export interface Run extends RunSummary {
  shown: string;
  stages: Stage[];
  metrics: Step[];
  samples: Sample[];
  machine: { cpu?: string; threads?: number };
}

/** What is known and what is new. A run that went back (it was resumed) says so by a step that is not above the last. */
export function joined(old: Run | null, fresh: Run): Run {
  if (!old || old.shown !== fresh.shown) return fresh;
  const now = fresh.stages.find((s) => s.name === fresh.shown);
  const kept = old.metrics.filter((step) => step.step <= (now?.step ?? Infinity));
  return { ...fresh, metrics: [...kept, ...fresh.metrics] };
}
