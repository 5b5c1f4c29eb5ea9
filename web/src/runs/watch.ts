// A training run as it goes on: asks for what is new every few seconds, while somebody looks.
import { signal } from "@preact/signals";
import { get } from "../api";
import { joined, type Run, type RunSummary } from "./run";

export const runs = signal<RunSummary[] | null>(null);
export const run = signal<Run | null>(null);
export const trouble = signal("");

const EVERY_MS = 2000;
const AT_REST_MS = 10000;

/** Watch the run `name` (the newest when empty) and its stage `stage` (likewise); the answer ends the watching. */
export function watch(name: string, stage: string): () => void {
  const abort = new AbortController();
  let timer = 0;
  if (run.value?.name !== name) run.value = null;
  const look = async () => {
    try {
      if (!document.hidden) await lookOnce(name, stage, abort.signal);
      trouble.value = "";
    } catch (error) {
      if (abort.signal.aborted) return;
      trouble.value = error instanceof Error ? error.message : String(error);
    }
    if (!abort.signal.aborted) timer = setTimeout(() => void look(), pause());
  };
  void look();
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}

function pause(): number {
  return runs.value?.some((r) => r.state === "running") ? EVERY_MS : AT_REST_MS;
}

async function lookOnce(name: string, stage: string, abort: AbortSignal): Promise<void> {
  runs.value = (await get<{ data: RunSummary[] }>("/v1/raison/runs", abort)).data;
  const wanted = name || runs.value[0]?.name;
  if (!wanted) return;
  const old = run.value?.name === wanted && (!stage || run.value.shown === stage) ? run.value : null;
  const after = old?.metrics.at(-1)?.step ?? 0;
  const query = new URLSearchParams({ stage: stage || (old?.shown ?? ""), after: String(after) });
  const fresh = await get<Run>(`/v1/raison/runs/${encodeURIComponent(wanted)}?${query}`, abort);
  if (!stage && fresh.shown !== fresh.stage) {
    run.value = null; // the next stage has begun
    return lookOnce(name, stage, abort);
  }
  run.value = joined(old, fresh);
}
