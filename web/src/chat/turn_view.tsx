// One question with its thinking, its vote, its answer and what it took.
import { type Signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { key } from "../api";
import { count, dollars, plural, seconds } from "../text/format";
import { Rich } from "../text/rich";
import { ask } from "./ask";
import { Thought } from "./thought";
import { allTokens, running, type Turn } from "./turn";
import { Vote } from "./vote";

export function TurnView({ turn: { value: turn } }: { turn: Signal<Turn> }) {
  return (
    <article class="turn" aria-busy={running(turn)}>
      <h2 class="question">{turn.question}</h2>
      {turn.phase === "waiting" && <p class="waiting">Waiting for the model</p>}
      {turn.branches.length > 0 && <Vote turn={turn} />}
      {turn.thinking && !turn.branches.length && <Thought turn={turn} />}
      {turn.answer && (
        <div class="answer">
          <Rich source={turn.answer} />
        </div>
      )}
      {!running(turn) && <Ending turn={turn} />}
    </article>
  );
}

function Ending({ turn }: { turn: Turn }) {
  return (
    <>
      {turn.phase === "failed" && (
        <p class="trouble" role="alert">
          {turn.trouble}
        </p>
      )}
      {turn.phase === "done" && !turn.answer && <p class="trouble">{nothing(turn)}</p>}
      <footer class="receipt">
        <ul aria-label="What it took">
          {receipt(turn).map((part) => (
            <li key={part}>{part}</li>
          ))}
        </ul>
        {turn.answer && <Copy name="copy" text={turn.answer} />}
        <Copy name="copy as curl" text={curl(turn.request)} />
        <button type="button" class="quiet" onClick={() => void ask(turn.question)}>
          ask again
        </button>
      </footer>
    </>
  );
}

function nothing(turn: Turn): string {
  if (turn.finish === "length") return "The tokens ran out before an answer came. Allow it more effort.";
  return "The model ended without an answer.";
}

/** The parts of the line under an answer. */
export function receipt(turn: Turn): string[] {
  const taken = (turn.ended - turn.began) / 1000;
  const used = allTokens(turn);
  const speed = turn.usage?.raison?.tokens_per_second ?? used / Math.max(taken, 1e-3);
  const cached = turn.usage?.prompt_tokens_details?.cached_tokens;
  const cost = turn.usage?.raison?.cost;
  return [
    turn.phase === "stopped" ? "stopped" : "",
    used ? `${turn.usage ? "" : "at least "}${plural(used, "token")}` : "",
    seconds(taken),
    turn.usage && used ? `${count(speed)} tokens/s` : "",
    turn.usage ? `prompt ${count(turn.usage.prompt_tokens)}${cached ? `, ${count(cached)} cached` : ""}` : "",
    cost === null || cost === undefined ? "" : dollars(cost),
  ].filter(Boolean);
}

function Copy({ name, text }: { name: string; text: string }) {
  const [copied, note] = useState(false);
  if (!navigator.clipboard) return null; // browsers lend it to pages from this machine and to https only
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    note(true);
    setTimeout(() => note(false), 1500);
  };
  return (
    <button type="button" class="quiet" onClick={() => void copy()}>
      {copied ? "copied" : name}
    </button>
  );
}

/** The same question as a command; where a key is needed it is left to the shell. */
function curl(request: object): string {
  const bearer = key.value ? ` \\\n  -H "Authorization: Bearer $RAISON_KEY"` : "";
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  return `curl -N ${location.origin}/v1/chat/completions${bearer} \\\n  -H 'Content-Type: application/json' -d '${body}'`;
}
