// Parts of a whole as one bar, and the same in words below it; a line marks the whole where they are more.
import { percent } from "../text/format";
import type { Part } from "./wire";

interface Props {
  title: string;
  parts: Part[];
  /** What there is room for. */
  whole: number;
  write: (value: number) => string;
}

export function Bar({ title, parts, whole, write }: Props) {
  const used = parts.reduce((sum, part) => sum + part.value, 0);
  const scale = Math.max(used, whole) || 1;
  const over = used > 1.001 * whole;
  return (
    <section class="parts" aria-label={title}>
      <h2>{title}</h2>
      <div class="stack" aria-hidden="true">
        {parts.map((part, n) => (
          <span key={part.name} class={`part part-${n}`} style={{ width: `${(100 * part.value) / scale}%` }} />
        ))}
        {over && <i style={{ left: `${(100 * whole) / scale}%` }} />}
      </div>
      <ul>
        {parts.map((part, n) => (
          <li key={part.name}>
            <span class={`part part-${n}`} aria-hidden="true" />
            {part.name} <b>{write(part.value)}</b>
          </li>
        ))}
        {over && <li class="over">{`${percent(used / whole - 1)} more than the ${write(whole)} that there are`}</li>}
      </ul>
    </section>
  );
}
