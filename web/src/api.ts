// Everything the page shows comes from here: this server's API, asked with the key that the reader typed.
import { signal } from "@preact/signals";
import { EventSourceParserStream } from "eventsource-parser/stream";

const KEY = "raison-key";

/** The API key: kept for this tab alone, and gone when it is closed. Empty on a server without keys. */
export const key = signal(sessionStorage.getItem(KEY) ?? "");

/** Whether the server has refused us for want of a good key. */
export const keyWanted = signal(false);

export function keep(value: string): void {
  key.value = value.trim();
  keyWanted.value = false;
  if (key.value) sessionStorage.setItem(KEY, key.value);
  else sessionStorage.removeItem(KEY);
}

/** What the server said when it refused, in words for a person. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export async function get<T>(path: string, abort?: AbortSignal): Promise<T> {
  const answer = await call(path, abort ? { signal: abort } : {});
  return (await answer.json()) as T;
}

export async function post<T>(path: string, body: unknown, abort: AbortSignal): Promise<T> {
  return (await (await call(path, posted(body, abort))).json()) as T;
}

/** Sends a question and gives the chunks of the answer as they come. */
export async function* stream(path: string, body: unknown, abort: AbortSignal): AsyncGenerator<unknown> {
  const answer = await call(path, posted(body, abort));
  if (!answer.body) return;
  const events = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()).getReader();
  for (;;) {
    const { value, done } = await events.read();
    if (done) break;
    if (value.data === "[DONE]") return;
    yield JSON.parse(value.data);
  }
  throw new Refused(0, "The connection ended before the answer did.");
}

function posted(body: unknown, signal: AbortSignal): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

async function call(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key.value) headers.set("Authorization", `Bearer ${key.value}`);
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Refused(0, "The server cannot be reached. Is raison serve still running?");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer: Response): Promise<Refused> {
  if (answer.status === 401) keyWanted.value = true;
  const body = (await answer.json().catch(() => null)) as { error?: { message?: string }; detail?: unknown } | null;
  const said = body?.error?.message ?? (typeof body?.detail === "string" ? body.detail : "");
  const wait = answer.headers.get("Retry-After");
  const later = answer.status === 429 && wait ? ` Try again in ${wait} s.` : "";
  return new Refused(answer.status, (said || `The server answered ${answer.status}.`) + later);
}
