// The plan as the question that the server is asked about one chip.
import type { Plan } from "./state";
import { around } from "./stops";

export function request(plan: Plan, chip: string): Record<string, unknown> {
  const shared = {
    model: plan.model,
    chip,
    ...(plan.precision && { precision: plan.precision }),
    ...(plan.price && chip === plan.chip && { usd_per_hour: plan.price }),
  };
  if (plan.kind === "train") return { ...shared, ...training(plan) };
  const { chips, users: streams, input, output } = plan;
  return { ...shared, chips, streams, input, output, curve: over(plan) };
}

function training(plan: Plan): Record<string, unknown> {
  const { fleet: chips, tokens, sequence } = plan;
  return { chips, tokens, sequence, curve: over(plan) };
}

const MOST_DOUBLINGS = 16;

/** The users, or the tokens, that figures are drawn over: the same for every chip. */
export function over(plan: Plan): number[] {
  if (plan.kind === "train") return around(plan.tokens, 1e9, 10 ** 0.5, 11);
  const doublings = Math.ceil(Math.log2(Math.max(512, plan.users))) + 1;
  return around(plan.users, 1, 2, 1 + Math.min(doublings, MOST_DOUBLINGS));
}
