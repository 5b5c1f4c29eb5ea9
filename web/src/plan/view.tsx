// The planning view: what is chosen on one side, on the other what it comes to.
import { effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { key, keyWanted } from "../api";
import { answers, change, choices, follow, loadChoices, plan, trouble } from "./asked";
import { Choosing } from "./choosing";
import { Result } from "./result";
import { type Kind, read, written } from "./state";

const KINDS: [Kind, string][] = [
  ["serve", "Serving"],
  ["train", "Pre-training"],
];

export function PlanView() {
  useEffect(() => void loadChoices(), [key.value]);
  useEffect(inAddress, []);
  useEffect(() => (choices.value ? follow() : undefined), [choices.value]);
  const found = answers.value?.plan.kind === plan.value.kind ? answers.value : null;
  return (
    <main id="main" tabIndex={-1} class="plan">
      <h1 class="unseen">Plan</h1>
      {trouble.value && !keyWanted.value && (
        <p class="trouble" role="alert">
          {trouble.value}
        </p>
      )}
      <div class="planning">
        <form class="choosing" aria-label="What is planned" onSubmit={(event) => event.preventDefault()}>
          <fieldset class="choice kinds">
            <legend class="unseen">Serving or training</legend>
            {KINDS.map(([kind, title]) => (
              <label key={kind} class="option">
                <input type="radio" name="kind" checked={plan.value.kind === kind} onChange={() => change({ kind, drawn: "" })} />
                <span>{title}</span>
              </label>
            ))}
          </fieldset>
          {choices.value && <Choosing known={choices.value} />}
        </form>
        {found && <Result plan={found.plan} of={found.of} />}
      </div>
    </main>
  );
}

/** The address says what is planned, and a new address is a new plan; the answer ends it. */
function inAddress(): () => void {
  const take = () => {
    if (location.hash.startsWith("#/plan")) plan.value = read(location.hash, plan.value);
  };
  take();
  addEventListener("hashchange", take);
  const end = effect(() => history.replaceState(null, "", written(plan.value)));
  return () => {
    removeEventListener("hashchange", take);
    end();
  };
}
