// What the reader chose, kept between visits, and what the server offers to choose from.
import { computed, effect, signal, type Signal } from "@preact/signals";
import { get } from "./api";

export interface Model {
  id: string;
  raison?: {
    context?: number;
    /** Thinking tokens by level of effort; null is no limit but the context. */
    efforts?: Record<string, number | null>;
    thinks?: boolean;
    /** What the model was trained to solve; such a model takes each question by itself. */
    task?: string | null;
    examples?: string[];
  };
}

export type Theme = "auto" | "light" | "dark";
export type Way = "one" | "vote" | "auto";
export const OWN = "own";
const LOADING_MS = 1000;

export const models = signal<Model[]>([]);
export const theme = kept<Theme>("theme", "auto");
export const chosenModel = kept<string>("model", "");
/** A level of effort, OWN for a budget in tokens, or "" for as much as the model likes. */
export const chosenEffort = kept<string>("effort", "");
export const budget = kept("budget", 256);
export const way = kept<Way>("way", "one");
export const votes = kept("votes", 8);

export const model = computed(() => models.value.find((m) => m.id === chosenModel.value) ?? models.value[0]);
/** Levels that limit something; one without a limit is what happens when nothing is asked for. */
export const efforts = computed(() => {
  const levels = Object.entries(model.value?.raison?.efforts ?? {});
  return levels.filter(([, budget]) => budget !== null).map(([name]) => name);
});

/** What was chosen, if the model at hand knows it. */
export const effort = computed(() => {
  const chosen = chosenEffort.value;
  return chosen === OWN || efforts.value.includes(chosen) ? chosen : "";
});

/** Thinking tokens that the present choice allows; null where there is no limit, or the page does not know it. */
export const allowed = computed(() => {
  if (effort.value === OWN) return budget.value;
  return model.value?.raison?.efforts?.[effort.value] ?? null;
});

/** Ask what there is; a model that is still being loaded says nothing of itself, and is asked again. */
export async function loadModels(): Promise<void> {
  models.value = (await get<{ data: Model[] }>("/v1/models")).data;
  if (models.value.some((one) => !one.raison)) setTimeout(() => void loadModels().catch(() => {}), LOADING_MS);
}

/** Whether the page is dark at the moment, by choice or by the system's. */
const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));
export const dark = computed(() => (theme.value === "auto" ? systemDark.value : theme.value === "dark"));

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});

function kept<T extends string | number>(name: string, first: T): Signal<T> {
  const stored = localStorage.getItem(`raison-${name}`);
  const value = signal((stored === null ? first : typeof first === "number" ? Number(stored) : stored) as T);
  effect(() => localStorage.setItem(`raison-${name}`, String(value.value)));
  return value;
}
