// Where one writes, and the three things that one may choose: how hard it thinks, how many samples, what decides.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { allowed, budget, chosenEffort, effort, efforts, model, OWN, votes, way, type Way } from "../settings";
import { count } from "../text/format";
import { ask, busy, startAnew, stop, turns } from "./ask";

const WAYS: [Way, string][] = [
  ["one", "one sample"],
  ["vote", "vote"],
  ["auto", "auto"],
];

export function Composer() {
  const draft = useSignal("");
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  const send = () => {
    const question = draft.value.trim();
    if (busy.value || !model.value) return;
    if (!question) return field.current?.focus();
    draft.value = "";
    void ask(question);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.isComposing || (event.shiftKey && !event.ctrlKey)) return;
    event.preventDefault();
    send();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="writing">
        <textarea
          ref={field}
          rows={1}
          aria-label="Your question"
          aria-keyshortcuts="Enter Control+Enter"
          placeholder="Ask, and watch it think"
          value={draft}
          onInput={(event) => (draft.value = event.currentTarget.value)}
          onKeyDown={onKey}
        />
        <Button ready={Boolean(draft.value.trim() && model.value)} />
      </div>
      <div class="controls">
        {model.value?.raison?.thinks !== false && <Effort />}
        <Samples />
        {turns.value.length > 0 && (
          <button type="button" class="quiet anew" onClick={startAnew}>
            start anew
          </button>
        )}
      </div>
    </form>
  );
}

/** One button for both, so that the keyboard's focus stays on it. */
function Button({ ready }: { ready: boolean }) {
  if (!busy.value) {
    return (
      <button key="ask" type="submit" class="send" data-ready={ready}>
        Ask
      </button>
    );
  }
  const onClick = (event: Event) => {
    event.preventDefault(); // by then it may ask
    stop();
  };
  return (
    <button key="ask" type="button" class="send" data-ready="true" aria-keyshortcuts="Escape" onClick={onClick}>
      Stop
    </button>
  );
}

function Effort() {
  const levels = [...efforts.value.map((name) => [name, name]), ["", "free"], [OWN, "budget"]] as [string, string][];
  return (
    <fieldset class="choice">
      <legend>Effort</legend>
      {levels.map(([value, name]) => (
        <Choice key={value} group="effort" name={name} on={effort.value === value} choose={() => (chosenEffort.value = value)} />
      ))}
      {effort.value === OWN ? (
        <Amount name="Thinking tokens" of={budget} most={model.value?.raison?.context ?? 131072} unit="tokens" />
      ) : (
        allowed.value !== null && <span class="note">{`${count(allowed.value)} tokens`}</span>
      )}
    </fieldset>
  );
}

function Samples() {
  return (
    <fieldset class="choice">
      <legend>Samples</legend>
      {WAYS.map(([value, name]) => (
        <Choice key={value} group="way" name={name} on={way.value === value} choose={() => (way.value = value)} />
      ))}
      {way.value === "vote" && <Amount name="Samples in the vote" of={votes} most={64} unit="samples" least={2} />}
      {way.value === "auto" && <Amount name="Samples at most" of={votes} most={64} unit="at most" least={2} />}
    </fieldset>
  );
}

function Choice(props: { group: string; name: string; on: boolean; choose: () => void }) {
  return (
    <label class="option">
      <input type="radio" name={props.group} checked={props.on} onChange={props.choose} />
      <span>{props.name}</span>
    </label>
  );
}

function Amount(props: { name: string; of: { value: number }; most: number; unit: string; least?: number }) {
  const least = props.least ?? 0;
  const take = (event: { currentTarget: HTMLInputElement }) => {
    const value = Math.round(event.currentTarget.valueAsNumber);
    if (value >= least && value <= props.most) props.of.value = value;
  };
  return (
    <span class="number">
      <input type="number" aria-label={props.name} min={least} max={props.most} value={props.of.value} onInput={take} />
      <span class="note">{props.unit}</span>
    </span>
  );
}
