// Asks the planner what the plan comes to on each of its chips: once the slider rests for a moment, the last word wins.
import { effect, signal } from "@preact/signals";
import { get, post } from "../api";
import { request } from "./request";
import { FIRST, type Plan, read, written } from "./state";
import type { Answer, Choices } from "./wire";

const REST_MS = 60;

export const plan = signal<Plan>(read(location.hash, FIRST));
export const choices = signal<Choices | null>(null);
/** What each chip of a plan comes to, or why there is no answer, in the plan's order; stays until the next is there. */
export const answers = signal<{ plan: Plan; of: (Answer | Error)[] } | null>(null);
export const trouble = signal("");

export function change(part: Partial<Plan>): void {
  plan.value = { ...plan.value, ...part };
}

export async function loadChoices(): Promise<void> {
  try {
    choices.value = await get<Choices>("/v1/raison/plan/choices");
    trouble.value = "";
  } catch (error) {
    trouble.value = error instanceof Error ? error.message : String(error);
  }
}

/** Ask again whenever what is planned changes, while the view is open; the answer ends it. */
export function follow(): () => void {
  let timer = 0;
  let asked = "";
  let asking = new AbortController();
  const stop = () => {
    clearTimeout(timer);
    asking.abort();
  };
  const end = effect(() => {
    const now = plan.value;
    const wanted = written({ ...now, drawn: "" });
    if (wanted === asked) return;
    stop();
    asked = wanted;
    asking = new AbortController();
    const { signal: abort } = asking;
    timer = setTimeout(() => void ask(now, abort), answers.peek() ? REST_MS : 0);
  });
  return () => {
    end();
    stop();
  };
}

async function ask(plan: Plan, abort: AbortSignal): Promise<void> {
  const chips = [plan.chip, ...plan.versus];
  const of = await Promise.all(
    chips.map((chip) =>
      post<Answer>(`/v1/raison/plan/${plan.kind}`, request(plan, chip), abort).catch((error: Error) => error),
    ),
  );
  if (!abort.aborted) answers.value = { plan, of };
}
