// Figures with their intervals: of one chip as tiles, of several as a table.
import { short } from "../text/format";
import { headed, MEASURES, type Measure, range } from "./measures";
import type { Kind } from "./state";
import type { Answer, Figures, Span } from "./wire";

export function Tiles({ kind, of }: { kind: Kind; of: Figures }) {
  return (
    <dl class="tiles">
      {MEASURES[kind].map((one) => (
        <div key={one.name}>
          <dt>{one.title}</dt>
          <dd>
            <Figure of={one} span={of[one.name] ?? null} unit={one.unit} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Figure({ of, span, unit = "" }: { of: Measure; span: Span | null; unit?: string }) {
  if (!span) return <span class="note">not known</span>;
  const parts = [unit, range({ ...of, unit: "" }, span) || "exact"];
  return (
    <>
      <span class="mid">{of.write(span.mid)}</span>
      <span class="note">{parts.filter(Boolean).join(", ")}</span>
    </>
  );
}

/** Chips side by side: one row each, every figure with its interval. */
export function Comparison({ kind, answers }: { kind: Kind; answers: Answer[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Chips compared">
      <table>
        <thead>
          <tr>
            <th scope="col">chip</th>
            {MEASURES[kind].map((one) => (
              <th key={one.name} scope="col">
                {headed(one)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {answers.map((answer, n) => (
            <Row key={answer.chip} kind={kind} answer={answer} line={n} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ kind, answer, line }: { kind: Kind; answer: Answer; line: number }) {
  const { chip, chips, layout, words, figures } = answer;
  return (
    <tr>
      <th scope="row" class={`line-${line}`}>
        {`${short(chips)} × ${chip}`}
        <span class="note">{layout}</span>
      </th>
      {figures ? (
        MEASURES[kind].map((one) => (
          <td key={one.name}>
            <Figure of={one} span={figures[one.name] ?? null} />
          </td>
        ))
      ) : (
        <td colSpan={MEASURES[kind].length}>{words.join(" ")}</td>
      )}
    </tr>
  );
}
