// The stages of a run in their order: what is done, what is under way, what each made of the model.
import { count, percent, seconds } from "../text/format";
import type { Run, Stage } from "./run";

export function Stages({ run, choose }: { run: Run; choose: (stage: string) => void }) {
  return (
    <ol class="stages" aria-label="Stages">
      {run.stages.map((stage) => (
        <li key={stage.name} data-state={stage.state}>
          <button
            type="button"
            aria-pressed={stage.name === run.shown}
            disabled={stage.state === "waiting"}
            onClick={() => choose(stage.name)}
          >
            <span class="name">
              <span class="sign">{sign(stage, run)}</span> {stage.name}
            </span>
            <span class="note">
              {progress(stage).map((part) => (
                <span key={part}>{part}</span>
              ))}
            </span>
            {stage.state === "active" && <progress max={stage.total} value={stage.step} aria-label={`${stage.name}, steps`} />}
            {stage.accuracy && <Accuracy of={stage.accuracy} />}
          </button>
        </li>
      ))}
    </ol>
  );
}

function sign(stage: Stage, run: Run): string {
  if (stage.state === "done") return "✓";
  if (stage.state === "waiting") return "·";
  return run.state === "running" ? "▶" : "▪";
}

/** Parts of a line; each stays in one piece where the line breaks. */
function progress(stage: Stage): string[] {
  if (stage.state === "waiting") return [stage.predicted_seconds ? `about ${seconds(stage.predicted_seconds)}` : "waiting"];
  if (stage.state === "done") return stage.total ? [`${count(stage.total)} steps,`, seconds(stage.seconds)] : ["measured"];
  const pace = stage.step ? stage.seconds / stage.step : 0;
  const left = pace ? [`${seconds(pace * (stage.total - stage.step))} left`] : [];
  return [`step ${count(stage.step)} of ${count(stage.total)}${pace ? "," : ""}`, ...left];
}

/** pass@1 with its interval as a whisker on a line from 0 to 1. */
function Accuracy({ of: { value, low, high } }: { of: NonNullable<Stage["accuracy"]> }) {
  return (
    <span class="accuracy">
      <span>{`solves ${percent(value)}`}</span>
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <line class="whole" x1="0" x2="100" y1="3" y2="3" />
        <line class="interval" x1={100 * low} x2={Math.max(100 * high, 100 * low + 0.5)} y1="3" y2="3" />
      </svg>
      <span class="note">{`${percent(low).replace(" %", "")} to ${percent(high)}`}</span>
    </span>
  );
}
