// A choice from a list, and an amount: a slider for a quick look, a field beside it for exactly this many.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { short } from "../text/format";
import { change, plan } from "./asked";
import { type Amount, within } from "./state";
import { nearest, STOPS } from "./stops";

/** `shown` stands in the field; it is the plan's own amount but where that is "as the catalogue says". */
export function Slider({ of, name, unit, shown = plan.value[of] }: { of: Amount; name: string; unit: string; shown?: number }) {
  const field = useId();
  const stops = STOPS[of];
  const take = (typed: string) => {
    const amount = within(of, typed);
    if (amount !== null) change({ [of]: amount });
  };
  return (
    <div class="slider">
      <label for={field}>{name}</label>
      <input
        type="range"
        aria-label={`${name}, slider`}
        min={0}
        max={stops.length - 1}
        value={nearest(stops, shown || 1)}
        aria-valuetext={`${short(shown)} ${unit}`.trim()}
        onInput={(event) => change({ [of]: stops[event.currentTarget.valueAsNumber]! })}
      />
      <span class="exact">
        <input
          id={field}
          type="text"
          inputMode="decimal"
          value={amount(shown)}
          onChange={(event) => {
            take(event.currentTarget.value.replaceAll(",", ""));
            event.currentTarget.value = amount(plan.value[of] || shown);
          }}
        />
        {unit && <span class="note">{unit}</span>}
      </span>
    </div>
  );
}

/** Whole up to a million; beyond in powers of ten, as one types them. */
function amount(value: number): string {
  return value < 1e7 ? String(value) : value.toExponential().replace("e+", "e");
}

interface Choice {
  name: string;
  value: string;
  choose: (value: string) => void;
  children: ComponentChildren;
}

export function Pick({ name, value, choose, children }: Choice) {
  return (
    <label class="pick">
      <span>{name}</span>
      <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
        {children}
      </select>
    </label>
  );
}
