// What the plan comes to: figures, a drawing of one of them, memory and time by part, and what all of it rests on.
import { useEffect } from "preact/hooks";
import { announce } from "../announce";
import { percent, plural, short } from "../text/format";
import { change, plan as chosen } from "./asked";
import { Chart } from "./chart";
import { Comparison, Tiles } from "./figures";
import { lines } from "./lines";
import { MEASURES, measure, range, told } from "./measures";
import { Bar } from "./parts";
import { over } from "./request";
import type { Plan } from "./state";
import type { Answer, Part } from "./wire";

const SETTLED_MS = 1000;

export function Result({ plan, of }: { plan: Plan; of: (Answer | Error)[] }) {
  const answers = of.filter((one): one is Answer => !(one instanceof Error));
  const first = of[0] instanceof Error ? null : of[0]!;
  useEffect(() => {
    const timer = setTimeout(() => announce(inWords(plan, of[0]!)), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [of]);
  return (
    <div class="result">
      {of.map((one, n) => one instanceof Error && <Wrong key={n} chip={[plan.chip, ...plan.versus][n]!} error={one} />)}
      {first && <First plan={plan} of={first} />}
      {answers.length > 1 && <Comparison kind={plan.kind} answers={answers} />}
      {answers.some((one) => one.curve.length) && <Drawing plan={plan} answers={answers} />}
      {first && <Parts of={first} />}
      {answers.map((answer) => (
        <Assumptions key={answer.chip} of={answer} />
      ))}
    </div>
  );
}

function Wrong({ chip, error }: { chip: string; error: Error }) {
  return <p class="trouble" role="alert">{`${chip}: ${error.message}`}</p>;
}

function First({ plan, of }: { plan: Plan; of: Answer }) {
  return (
    <section aria-label={`${of.model} on ${of.chip}`}>
      <h2 class="where">
        {`${of.model} on ${short(of.chips)} × ${of.chip}`}
        <span class="note">{[of.precision, of.layout].filter(Boolean).join(", ")}</span>
      </h2>
      {of.words.map((word) => (
        <p key={word} class="verdict" data-verdict={of.verdict}>
          <b>{of.verdict}</b> {word}
        </p>
      ))}
      {of.figures && <Tiles kind={plan.kind} of={of.figures} />}
    </section>
  );
}

function Drawing({ plan, answers }: { plan: Plan; answers: Answer[] }) {
  const of = measure(plan.kind, chosen.value.drawn);
  const xs = over(plan);
  const serving = plan.kind === "serve";
  return (
    <section class="drawing" aria-label="Drawn">
      <fieldset class="choice">
        <legend>{serving ? "Over users" : "Over tokens"}</legend>
        {MEASURES[plan.kind].map(({ name, title }) => (
          <label key={name} class="option">
            <input type="radio" name="drawn" checked={of.name === name} onChange={() => change({ drawn: name })} />
            <span>{title}</span>
          </label>
        ))}
      </fieldset>
      <Chart
        of={of}
        lines={lines(answers, of.name, xs)}
        xs={xs}
        now={serving ? plan.users : plan.tokens}
        x={(value) => (serving ? plural(value, "user") : `${short(value)} tokens`)}
        across={serving ? "users at once" : "tokens"}
      />
    </section>
  );
}

function Parts({ of: { memory, bound } }: { of: Answer }) {
  const { parts, total } = memory;
  const whole = total ?? parts.reduce((sum, part) => sum + part.value, 0);
  return (
    <div class="both">
      {parts.length > 0 && <Bar title="Memory of a chip" parts={parts} whole={whole} write={gigabytes} />}
      {bound.length > 0 && <Bar title={`Time: mostly ${largest(bound).name}`} parts={bound} whole={1} write={percent} />}
    </div>
  );
}

function gigabytes(bytes: number): string {
  return `${short(bytes / 1e9)} GB`;
}

function Assumptions({ of }: { of: Answer }) {
  return (
    <details class="assumptions">
      <summary>{`What this assumes of ${of.chip}`}</summary>
      <ul>
        {of.assumptions.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </details>
  );
}

function largest(parts: Part[]): Part {
  return parts.reduce((most, part) => (part.value > most.value ? part : most));
}

/** The first chip's figures as one sentence, or why there are none. */
function inWords(plan: Plan, of: Answer | Error): string {
  if (of instanceof Error) return of.message;
  if (!of.figures) return `${of.chip}, ${of.verdict}: ${of.words.join(" ")}`;
  const said = MEASURES[plan.kind].flatMap((one) => {
    const span = of.figures![one.name];
    return span ? [`${one.title} ${told(one, span.mid)}, ${range(one, span)}`] : [];
  });
  return `${short(of.chips)} ${of.chip}: ${said.join("; ")}`;
}
