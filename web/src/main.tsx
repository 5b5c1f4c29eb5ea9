// The page's frame: where one is, which model, light or dark, and the key where the server wants one.
import { effect, signal, useSignal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Announcer } from "./announce";
import { keep, key, keyWanted } from "./api";
import { Chat } from "./chat/chat";
import { PlanView } from "./plan/view";
import { Runs } from "./runs/runs";
import { chosenModel, loadModels, model, models, theme, type Theme } from "./settings";
import "katex/dist/katex.min.css";
import "./style/base.css";
import "./style/chat.css";
import "./style/runs.css";
import "./style/plan.css";

const place = signal(location.hash);
const trouble = signal("");
const THEMES: Theme[] = ["auto", "light", "dark"];

const VIEWS = [
  ["", "Think"],
  ["training", "Training"],
  ["plan", "Plan"],
] as const;

function App() {
  const [, view, name] = place.value.split(/[/?]/);
  const shown = VIEWS.find(([at]) => at === view)?.[0] ?? "";
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <header class="top">
        <a class="wordmark" href="#/">
          raison
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([at, title]) => (
            <a key={at} href={`#/${at}`} aria-current={at === shown ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <Models />
        <Themes />
        {key.value && (
          <button type="button" class="quiet" onClick={() => keep("")}>
            forget key
          </button>
        )}
      </header>
      {keyWanted.value && <KeyForm />}
      {trouble.value && !keyWanted.value && (
        <p class="trouble" role="alert">
          {trouble.value}
        </p>
      )}
      {shown === "" && <Chat />}
      {shown === "training" && <Runs name={decodeURIComponent(name ?? "")} />}
      {shown === "plan" && <PlanView />}
      <Announcer />
    </>
  );
}

function Models() {
  if (models.value.length < 2) return <span class="model">{model.value?.id ?? ""}</span>;
  return (
    <label class="model">
      <span class="unseen">Model</span>
      <select value={model.value?.id} onChange={(event) => (chosenModel.value = event.currentTarget.value)}>
        {models.value.map((m) => (
          <option key={m.id} value={m.id}>
            {m.id}
          </option>
        ))}
      </select>
    </label>
  );
}

function Themes() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
  return (
    <button
      type="button"
      class="quiet"
      aria-label={`Colours: ${theme.value}. Change to ${next}`}
      title={`Colours: ${theme.value}`}
      onClick={() => (theme.value = next)}
    >
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="6.5" fill={theme.value === "dark" ? "currentColor" : "none"} stroke="currentColor" stroke-width="1.5" />
        {theme.value === "auto" && <path d="M8 1.5a6.5 6.5 0 0 1 0 13z" fill="currentColor" />}
      </svg>
    </button>
  );
}

function KeyForm() {
  const typed = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <form
      class="key"
      onSubmit={(event) => {
        event.preventDefault();
        keep(typed.value);
      }}
    >
      <label>
        This server asks for a key
        <input
          ref={field}
          type="password"
          autocomplete="off"
          value={typed}
          onInput={(event) => (typed.value = event.currentTarget.value)}
        />
      </label>
      <button type="submit" disabled={!typed.value.trim()}>
        Use it
      </button>
      <p class="note">It stays in this tab and is gone when you close it.</p>
    </form>
  );
}

/** The part after # says where one is; skipping must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

addEventListener("hashchange", () => (place.value = location.hash));
effect(() => {
  void key.value; // a new key may see other models
  loadModels().then(
    () => (trouble.value = ""),
    (error: Error) => (trouble.value = error.message),
  );
});
render(<App />, document.body);
