// What one chooses: a model, chips to compare, and amounts on sliders.
import { useState } from "preact/hooks";
import { short } from "../text/format";
import { change, plan } from "./asked";
import { Pick, Slider } from "./controls";
import { MOST_VERSUS } from "./state";
import type { ChipChoice, Choices } from "./wire";

const KINDS: Record<string, string> = {
  this: "This machine",
  gpu: "Accelerators",
  tpu: "TPU",
  rdu: "RDU",
  sram: "On-chip memory",
  consumer: "Graphics cards",
  apple: "Apple",
  cpu: "CPU",
};

export function Choosing({ known }: { known: Choices }) {
  const { kind, chip, versus, precision } = plan.value;
  return (
    <>
      <Model known={known} />
      <Pick name="Chip" value={chip} choose={(chip) => change({ chip, price: 0, versus: versus.filter((one) => one !== chip) })}>
        <Chips of={known.chips} />
      </Pick>
      <Versus known={known} />
      <Pick name="Precision" value={precision} choose={(precision) => change({ precision })}>
        <option value="">{kind === "serve" ? "as is usual" : "bf16"}</option>
        {known.precisions
          .filter((one) => kind === "serve" || one !== "bf16")
          .map((one) => (
            <option key={one}>{one}</option>
          ))}
      </Pick>
      {kind === "serve" ? <Serving /> : <Training />}
      <Price of={known.chips.find((one) => one.name === chip)} />
    </>
  );
}

function Serving() {
  return (
    <>
      <Slider of="chips" name="Chips" unit="" />
      <Slider of="users" name="Users at once" unit="" />
      <Slider of="input" name="Input" unit="tokens" />
      <Slider of="output" name="Output" unit="tokens" />
    </>
  );
}

function Training() {
  return (
    <>
      <Slider of="fleet" name="Chips" unit="" />
      <Slider of="tokens" name="Tokens" unit="" />
      <Slider of="sequence" name="Sequence" unit="tokens" />
    </>
  );
}

/** A model by name, or by its parameters, of which a typical shape is then assumed. */
function Model({ known }: { known: Choices }) {
  const { model } = plan.value;
  const named = known.models.some((one) => one.name === model);
  const other = "671e9/37e9";
  return (
    <>
      <Pick name="Model" value={named ? model : other} choose={(model) => change({ model })}>
        {known.models.map(({ name, total }) => (
          <option key={name} value={name}>{`${name}, ${short(total)}`}</option>
        ))}
        <option value={other}>another, by its parameters</option>
      </Pick>
      {!named && <Parameters model={model} />}
    </>
  );
}

function Parameters({ model }: { model: string }) {
  return (
    <label class="pick">
      <span>Parameters</span>
      <input
        type="text"
        value={model}
        aria-describedby="parameters-hint"
        onChange={(event) => change({ model: event.currentTarget.value.trim() })}
      />
      <span class="note" id="parameters-hint">
        all / active for a token
      </span>
    </label>
  );
}

function Chips({ of }: { of: ChipChoice[] }) {
  const kinds = [...new Set(of.map((chip) => chip.kind))];
  return kinds.map((kind) => (
    <optgroup key={kind} label={KINDS[kind] ?? kind}>
      {of
        .filter((chip) => chip.kind === kind)
        .map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
    </optgroup>
  ));
}

/** Chips beside the first; each can be taken away again. */
function Versus({ known }: { known: Choices }) {
  const { chip, versus } = plan.value;
  const [turn, again] = useState(0);
  const add = (name: string) => {
    change({ versus: [...versus, name] });
    again(turn + 1); // the list is a new one, and stands at its first line
  };
  return (
    <div class="versus">
      {versus.map((name, n) => (
        <button
          key={name}
          type="button"
          class={`quiet line-${n + 1}`}
          aria-label={`Compare no longer with ${name}`}
          onClick={() => change({ versus: versus.filter((one) => one !== name) })}
        >
          {name} <span aria-hidden="true">×</span>
        </button>
      ))}
      {versus.length < MOST_VERSUS && (
        <Pick key={turn} name="Compare" value="" choose={(name) => name && add(name)}>
          <option value="">…</option>
          <Chips of={known.chips.filter(({ name }) => name !== chip && !versus.includes(name))} />
        </Pick>
      )}
    </div>
  );
}

function Price({ of }: { of: ChipChoice | undefined }) {
  const { price } = plan.value;
  const listed = of?.usd_per_hour ?? 0;
  const said = listed ? `$${listed}: ${of!.price_note}` : "no price of this chip is known";
  return (
    <>
      <Slider of="price" name="Price" unit="$ / chip-hour" shown={price || listed} />
      <p class="note source">
        {price ? (
          <>
            {"as given; "}
            <button type="button" class="quiet" onClick={() => change({ price: 0 })}>
              {listed ? `back to $${listed}` : "without one"}
            </button>
          </>
        ) : (
          said
        )}
      </p>
    </>
  );
}
