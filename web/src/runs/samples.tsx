// What the model wrote lately: of each problem one sample that was solved and one that was not.
import { plural } from "../text/format";
import type { Sample } from "./run";

export function Samples({ samples }: { samples: Sample[] }) {
  if (!samples.length) return null;
  return (
    <section class="samples">
      <h2>Latest samples</h2>
      <ul>
        {samples.map((sample) => (
          <li key={`${sample.step} ${sample.prompt} ${sample.correct}`} data-correct={sample.correct}>
            <header>
              <span class="prompt">{sample.prompt}</span>
              <span class="note">{`step ${sample.step + 1}, ${plural(sample.tokens, "token")}`}</span>
            </header>
            {sample.thinking && (
              <div class="words" tabIndex={0} role="group" aria-label={`Thinking on ${sample.prompt}`}>
                {sample.thinking}
              </div>
            )}
            <p class="outcome">
              {sample.answer && <span class="said">{sample.answer}</span>}
              <span class="verdict">{`${sample.correct ? "✓ solved" : "✗ not solved"}: ${why(sample)}`}</span>
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}

function why(sample: Sample): string {
  const cut = sample.truncated ? ", cut off" : "";
  return `${sample.reason || "no reason given"}${cut}, reward ${Number(sample.reward.toFixed(2))}`;
}
