// The conversation with the field to write in under it; before the first question, something to start from.
import { useEffect, useRef } from "preact/hooks";
import { model } from "../settings";
import { ask, busy, stop, turns } from "./ask";
import { Composer } from "./composer";
import { TurnView } from "./turn_view";

export function Chat() {
  useEffect(() => void (document.title = busy.value ? "Thinking, Raison" : "Raison"), [busy.value]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && busy.value) stop();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  return (
    <main id="main" tabIndex={-1} class="chat">
      <h1 class="unseen">Think</h1>
      <Conversation />
      <Composer />
    </main>
  );
}

function Conversation() {
  const end = useRef<HTMLDivElement>(null);
  useFollowing(end);
  return (
    <div class="conversation">
      {turns.value.length === 0 && <Welcome />}
      {turns.value.map((turn, index) => (
        <TurnView key={index} turn={turn} />
      ))}
      <div ref={end} />
    </div>
  );
}

function Welcome() {
  const about = model.value?.raison;
  return (
    <section class="welcome">
      <p class="greeting">It thinks before it answers, and shows you how.</p>
      {about?.examples && about.examples.length > 0 && (
        <>
          <p class="hint">{about.task ? `This model was trained on ${about.task}. Try` : "Try"}</p>
          <ul class="examples">
            {about.examples.map((example) => (
              <li key={example}>
                <button type="button" onClick={() => void ask(example)}>
                  {example}
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
      <p class="keys">
        <kbd>Enter</kbd> asks, <kbd>Shift Enter</kbd> breaks the line, <kbd>Esc</kbd> stops.
      </p>
    </section>
  );
}

/** Keeps the end of the conversation in sight while it grows, unless the reader has scrolled up. */
function useFollowing(end: { current: HTMLElement | null }): void {
  useEffect(() => {
    const content = end.current?.parentElement;
    if (!content) return;
    let atEnd = true;
    const root = document.scrollingElement!;
    const note = () => (atEnd = root.scrollHeight - root.scrollTop - root.clientHeight < 80);
    const watch = new ResizeObserver(() => {
      if (atEnd) root.scrollTop = root.scrollHeight;
    });
    watch.observe(content);
    addEventListener("scroll", note, { passive: true });
    return () => {
      watch.disconnect();
      removeEventListener("scroll", note);
    };
  }, []);
}
