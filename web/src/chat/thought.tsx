// The thinking: open while it streams, folded to one line when it has ended, open again for whoever wants to read it.
import { useEffect, useRef, useState } from "preact/hooks";
import { count, plural, seconds } from "../text/format";
import { Plain } from "../text/rich";
import { running, thoughtTokens, type Turn } from "./turn";

/** A pace is worth showing once it has settled. */
const SETTLED_SECONDS = 0.5;

export function Thought({ turn }: { turn: Turn }) {
  const live = running(turn) && !turn.thoughtTo;
  const [chosen, choose] = useState<boolean | null>(null);
  const open = chosen ?? live;
  return (
    <div class="thought" data-live={live}>
      <button type="button" class="fold" aria-expanded={open} onClick={() => choose(!open)}>
        <span class="mark" aria-hidden="true" />
        <Headline turn={turn} live={live} />
      </button>
      {live && <Meter used={thoughtTokens(turn)} allowed={turn.allowed} />}
      {open && <Words text={turn.thinking} live={live} name="What was thought" />}
    </div>
  );
}

function Headline({ turn, live }: { turn: Turn; live: boolean }) {
  const now = useClock(live);
  const taken = ((live ? now : turn.thoughtTo) - turn.thoughtFrom) / 1000;
  const used = thoughtTokens(turn);
  const known = turn.usage ? "" : "at least ";
  if (!live) return <span>{`Thought for ${seconds(taken)}, ${known}${plural(used, "token")}${spent(turn, used)}`}</span>;
  const of = turn.allowed ? ` of ${count(turn.allowed)}` : "";
  if (!turn.usage) return <span>{`Thinking, ${seconds(taken)}, ${count(used)}+${of} tokens`}</span>;
  const pace = taken > SETTLED_SECONDS ? `, ${count(used / taken)} tokens/s` : "";
  return <span>{`Thinking, ${seconds(taken)}, ${count(used)}${of} tokens${pace}`}</span>;
}

/** Whether the budget ended the thinking, as far as the counts tell. */
function spent(turn: Turn, used: number): string {
  return turn.allowed && used >= turn.allowed ? " (the whole budget)" : "";
}

export function Meter({ used, allowed }: { used: number; allowed: number | null }) {
  if (!allowed) return null;
  return <progress class="meter" max={allowed} value={Math.min(used, allowed)} aria-label="Thinking budget used" />;
}

/** Text that stays at its newest line, unless the reader has scrolled back; its formulas are set when it has ended. */
export function Words({ text, live, name }: { text: string; live: boolean; name: string }) {
  const place = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  useEffect(() => {
    const box = place.current;
    if (box && live && follow.current) box.scrollTop = box.scrollHeight;
  }, [text, live]);
  const note = () => {
    const box = place.current;
    if (box) follow.current = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  };
  return (
    <div class="words" ref={place} onScroll={note} tabIndex={0} role="group" aria-label={name}>
      {live ? text : <Plain source={text} />}
    </div>
  );
}

/** The page's clock, ten times a second while it is watched. */
function useClock(watched: boolean): number {
  const [now, tick] = useState(performance.now());
  useEffect(() => {
    if (!watched) return;
    const timer = setInterval(() => tick(performance.now()), 100);
    return () => clearInterval(timer);
  }, [watched]);
  return Math.max(now, performance.now());
}
