// Asks a question as the controls stand, and keeps the conversation: one signal a turn, redrawn once a frame at most.
import { computed, signal, type Signal } from "@preact/signals";
import { stream } from "../api";
import { announce } from "../announce";
import { allowed, budget, effort, model, OWN, votes, way } from "../settings";
import { plural, seconds } from "../text/format";
import { asked, done, failed, hear, running, stopped, thoughtTokens, type Chunk, type Turn } from "./turn";

export const turns = signal<Signal<Turn>[]>([]);
export const busy = computed(() => turns.value.some((turn) => running(turn.value)));

/** "majority" gives what all samples together would say, and stops as soon as that is certain. */
const VOTES = { vote: "majority", auto: "auto" };

let abort = new AbortController();

/** Ask, and hear the answer out. Never throws: what goes wrong is part of the turn. */
export async function ask(question: string): Promise<void> {
  if (busy.value) return;
  const request = requestFor(question);
  const turn = signal(asked(question, request, allowed.value, performance.now()));
  turns.value = [...turns.value, turn];
  abort = new AbortController();
  announce("Thinking");
  turn.value = await listen(request, turn);
  announce(spoken(turn.value));
}

export function stop(): void {
  abort.abort();
}

/** Forget what was said. */
export function startAnew(): void {
  stop();
  turns.value = [];
}

async function listen(request: object, turn: Signal<Turn>): Promise<Turn> {
  let heard = turn.value;
  let frame = 0;
  const show = () => {
    frame = 0;
    turn.value = heard;
  };
  try {
    for await (const chunk of stream("/v1/chat/completions", request, abort.signal)) {
      heard = hear(heard, chunk as Chunk, performance.now());
      frame ||= requestAnimationFrame(show);
    }
    return done(heard, performance.now());
  } catch (error) {
    if (abort.signal.aborted) return stopped(heard, performance.now());
    return failed(heard, error instanceof Error ? error.message : String(error), performance.now());
  } finally {
    cancelAnimationFrame(frame);
  }
}

function requestFor(question: string): object {
  return {
    model: model.value?.id,
    messages: [...remembered(), { role: "user", content: question }],
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    ...(effort.value === OWN ? { thinking_token_budget: budget.value } : {}),
    ...(effort.value && effort.value !== OWN ? { reasoning_effort: effort.value } : {}),
    ...(way.value === "one" ? {} : { strategy: { vote: VOTES[way.value], max_samples: votes.value } }),
  };
}

/** What was said before. A model that was trained on a task was trained on single questions, and gets nothing else. */
function remembered(): object[] {
  if (model.value?.raison?.task) return [];
  return turns.value
    .map((turn) => turn.value)
    .filter((turn) => turn.answer && turn.phase !== "failed")
    .flatMap((turn) => [
      { role: "user", content: turn.question },
      { role: "assistant", content: turn.answer },
    ]);
}

/** What a screen reader says once, at the end. */
function spoken(turn: Turn): string {
  if (turn.phase === "failed") return turn.trouble;
  if (turn.phase === "stopped") return "Stopped.";
  const votes = turn.branches.length ? `, ${plural(turn.branches.length, "branch", "branches")}` : "";
  const thought = turn.thoughtFrom ? `Thought for ${seconds((turn.thoughtTo - turn.thoughtFrom) / 1000)}` : "Answered";
  return `${thought}, ${plural(thoughtTokens(turn), "token")}${votes}. ${turn.answer || "No answer came."}`;
}
