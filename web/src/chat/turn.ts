// One question and what has been heard of its answer: a record, and the pure function that takes in the next chunk.
// Not covered: asking (ask.ts), showing (turn_view.tsx).

export type Finish = "stop" | "length" | "cancelled" | "tool_calls";
export type Phase = "waiting" | "thinking" | "answering" | "done" | "stopped" | "failed";

/** One sample of a vote. `pieces` counts what came, each a token or more; `tokens` is what the server says. */
export interface Branch {
  number: number;
  thinking: string;
  answer: string;
  pieces: number;
  tokens: number | null;
  finish: Finish | null;
}

/** Answers that mean the same, with the branches that gave them. */
export interface Class {
  answer: string;
  weight: number;
  branches: number[];
}

export interface Tally {
  classes: Class[];
  /** Index of the class that leads; null while none does. */
  leader: number | null;
  /** What ended the vote; empty while it goes on. */
  why: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number | null } | null;
  completion_tokens_details?: { reasoning_tokens?: number | null } | null;
  raison?: {
    branches?: { branch: number; tokens: number; thinking_tokens?: number; finish?: Finish }[];
    tokens_per_second?: number | null;
    cost?: number | null;
  } | null;
}

export interface Turn {
  question: string;
  /** What was sent. */
  request: object;
  /** Thinking tokens that were allowed; null = no limit that is known. */
  allowed: number | null;
  phase: Phase;
  thinking: string;
  answer: string;
  pieces: number;
  thinkingPieces: number;
  branches: Branch[];
  tally: Tally | null;
  /** The branch that first gave each answer, in the order in which the answers came: it keeps its letter by that. */
  founders: number[];
  /** Milliseconds of the page's clock; 0 = not yet. */
  began: number;
  thoughtFrom: number;
  thoughtTo: number;
  ended: number;
  finish: Finish | null;
  usage: Usage | null;
  trouble: string;
}

export interface Chunk {
  choices?: { delta?: Delta; finish_reason?: Finish | null }[];
  usage?: Usage | null;
  raison?: Word;
  error?: { message?: string };
}

interface Delta {
  content?: string | null;
  reasoning_content?: string | null;
  reasoning?: string | null;
}

type Word =
  | { event: "branch"; branch: number; reasoning_content?: string; content?: string; tokens?: number }
  | { event: "ended"; branch: number; answer?: string; tokens: number; finish: Finish }
  | ({ event: "tally" } & Tally);

export function asked(question: string, request: object, allowed: number | null, now: number): Turn {
  return {
    question, request, allowed, phase: "waiting", thinking: "", answer: "", pieces: 0, thinkingPieces: 0, branches: [],
    tally: null, founders: [], began: now, thoughtFrom: 0, thoughtTo: 0, ended: 0, finish: null, usage: null, trouble: "",
  };
}

/** The turn after one more chunk, heard at `now`. */
export function hear(turn: Turn, chunk: Chunk, now: number): Turn {
  if (chunk.error) return failed(turn, chunk.error.message ?? "The server broke off.", now);
  let heard = chunk.usage ? { ...turn, usage: chunk.usage } : turn;
  if (chunk.raison) heard = hearWord(heard, chunk.raison, now);
  const choice = chunk.choices?.[0];
  if (choice?.delta) heard = hearDelta(heard, choice.delta, now);
  return choice?.finish_reason ? { ...heard, finish: choice.finish_reason } : heard;
}

/** The stream has ended as it should. */
export function done(turn: Turn, now: number): Turn {
  return { ...closed(turn, now), phase: turn.phase === "failed" ? "failed" : "done" };
}

/** The reader has stopped it. */
export function stopped(turn: Turn, now: number): Turn {
  return { ...closed(turn, now), phase: "stopped", finish: "cancelled" };
}

export function failed(turn: Turn, trouble: string, now: number): Turn {
  return { ...closed(turn, now), phase: "failed", trouble: turn.trouble || trouble };
}

export function running(turn: Turn): boolean {
  return turn.ended === 0;
}

/** Tokens of thought: the server's count as soon as there is one, until then the pieces that came, which are fewer. */
export function thoughtTokens(turn: Turn): number {
  const all = turn.answer ? undefined : turn.usage?.completion_tokens;
  return turn.usage?.completion_tokens_details?.reasoning_tokens ?? all ?? turn.thinkingPieces;
}

export function allTokens(turn: Turn): number {
  const heard = turn.branches.reduce((sum, b) => sum + (b.tokens ?? b.pieces), 0);
  return turn.usage?.completion_tokens ?? (heard || turn.pieces);
}

/** Number of a class that it keeps, however the tally is sorted. */
export function rank(turn: Turn, of: Class): number {
  return turn.founders.findIndex((founder) => of.branches.includes(founder));
}

/** Number of the class that a branch's answer belongs to; -1 while it has none. */
export function rankOf(turn: Turn, branch: number): number {
  const found = turn.tally?.classes.find((c) => c.branches.includes(branch));
  return found ? rank(turn, found) : -1;
}

function withFounders(founders: number[], classes: Class[]): number[] {
  const fresh = classes.filter((c) => !founders.some((founder) => c.branches.includes(founder)));
  return [...founders, ...fresh.map((c) => Math.min(...c.branches))];
}

function closed(turn: Turn, now: number): Turn {
  const thoughtTo = turn.thoughtFrom && !turn.thoughtTo ? now : turn.thoughtTo;
  const branches = turn.branches.map((b) => (b.finish ? b : { ...b, finish: "cancelled" as const }));
  return { ...turn, ended: now, thoughtTo, branches };
}

function hearDelta(turn: Turn, delta: Delta, now: number): Turn {
  const thought = delta.reasoning_content ?? delta.reasoning ?? "";
  const said = delta.content ?? "";
  let heard = turn;
  if (thought) {
    heard = thinkingSince(heard, now);
    heard = { ...heard, thinking: heard.thinking + thought, thinkingPieces: heard.thinkingPieces + 1 };
  }
  if (said) {
    const thoughtTo = heard.thoughtFrom && !heard.thoughtTo ? now : heard.thoughtTo;
    heard = { ...heard, phase: "answering", thoughtTo, answer: heard.answer + said };
  }
  return thought || said ? { ...heard, pieces: heard.pieces + 1 } : heard;
}

function hearWord(turn: Turn, word: Word, now: number): Turn {
  switch (word.event) {
    case "branch":
      return onBranch(thinkingSince(turn, now), word.branch, (b) => ({
        ...b,
        thinking: b.thinking + (word.reasoning_content ?? ""),
        answer: b.answer + (word.content ?? ""),
        pieces: b.pieces + 1,
        tokens: word.tokens ?? b.tokens,
      }));
    case "ended":
      return onBranch(turn, word.branch, (b) => ({
        ...b, answer: word.answer || b.answer, tokens: word.tokens, finish: word.finish,
      }));
    case "tally":
      return { ...turn, tally: word, founders: withFounders(turn.founders, word.classes) };
    default: // what a later server may say
      return turn;
  }
}

function thinkingSince(turn: Turn, now: number): Turn {
  if (turn.thoughtFrom) return turn;
  return { ...turn, phase: "thinking", thoughtFrom: now };
}

function onBranch(turn: Turn, number: number, change: (branch: Branch) => Branch): Turn {
  const found = turn.branches.find((b) => b.number === number);
  const old = found ?? { number, thinking: "", answer: "", pieces: 0, tokens: null, finish: null };
  const others = turn.branches.filter((b) => b.number !== number);
  return { ...turn, branches: [...others, change(old)].sort((a, b) => a.number - b.number) };
}
