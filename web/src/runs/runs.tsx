// The training view: which run, how far it is, its figures step by step, what it writes.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { count } from "../text/format";
import { Chart } from "./chart";
import { Samples } from "./samples";
import { Stages } from "./stages";
import type { Run, Step } from "./run";
import { run, runs, trouble, watch } from "./watch";

/** Figures worth a place of their own, in the order in which one asks for them, with what they mean. */
const FIRST: Record<string, string> = {
  reward: "reward, mean",
  solved: "solved, share",
  length: "length, tokens",
  entropy: "entropy, nats",
  loss: "loss, nats",
  dead: "dead groups, share",
  truncated: "cut off, share",
};
const HEAD = ["stage", "step", "total"];

export function Runs({ name }: { name: string }) {
  const stage = useSignal("");
  useEffect(() => watch(name, stage.value), [name, stage.value]);
  const shown = run.value;
  return (
    <main id="main" tabIndex={-1} class="runs">
      <h1 class="unseen">Training</h1>
      {trouble.value && (
        <p class="trouble" role="alert">
          {trouble.value}
        </p>
      )}
      {runs.value?.length === 0 && <Nothing />}
      {shown && (
        <>
          <Heading shown={shown} choose={() => (stage.value = "")} />
          <Stages run={shown} choose={(name) => (stage.value = name)} />
          <Figures run={shown} />
          <Samples samples={shown.samples} />
        </>
      )}
    </main>
  );
}

function Nothing() {
  return (
    <section class="welcome">
      <p class="greeting">No training run yet.</p>
      <p class="hint">
        <code>raison run recipes/quick.toml</code> starts one, from random weights; it shows here as it goes.
      </p>
    </section>
  );
}

function Heading({ shown, choose }: { shown: Run; choose: () => void }) {
  const go = (name: string) => {
    choose();
    location.hash = `#/training/${encodeURIComponent(name)}`;
  };
  return (
    <header class="heading">
      <label>
        <span class="unseen">Training run</span>
        <select value={shown.name} onChange={(event) => go(event.currentTarget.value)}>
          {runs.value?.map((r) => (
            <option key={r.name} value={r.name}>
              {r.name}
            </option>
          ))}
        </select>
      </label>
      <span class="state" data-state={shown.state}>
        {shown.state}
      </span>
      <span class="note">
        {[shown.task, shown.machine.cpu, shown.machine.threads && `${shown.machine.threads} threads`]
          .filter(Boolean)
          .join(", ")}
      </span>
    </header>
  );
}

function Figures({ run: { metrics, shown, state } }: { run: Run }) {
  const last = metrics.at(-1);
  if (!last) return <p class="hint">{`${shown} has made no step yet.`}</p>;
  const rated = metrics.map(withRate);
  const names = [...new Set(metrics.flatMap((step) => Object.keys(step)))].filter((n) => !HEAD.includes(n));
  const first = Object.keys(FIRST).filter((n) => names.includes(n));
  const others = [...names.filter((n) => !(n in FIRST)), "tokens_per_second"];
  return (
    <section class="figures" aria-label={`Figures of ${shown}`}>
      <p class="note">
        {`${shown}, step ${count(last.step)} of ${count(Number(last["total"]))}`}
        {state === "running" ? "" : `, ${state}`}
      </p>
      <div class="charts">
        {first.map((name) => (
          <Chart key={`${shown} ${name}`} name={name} title={FIRST[name]!} steps={rated} />
        ))}
      </div>
      <details>
        <summary>{`${others.length} more figures`}</summary>
        <div class="charts">
          {others.map((name) => (
            <Chart key={`${shown} ${name}`} name={name} title={name.replaceAll("_", " ")} steps={rated} />
          ))}
        </div>
      </details>
    </section>
  );
}

function withRate(step: Step): Step {
  const { tokens, seconds } = step;
  const known = typeof tokens === "number" && typeof seconds === "number" && seconds > 0;
  return { ...step, tokens_per_second: known ? tokens / seconds : null } as Step;
}
