// One figure over users or tokens: a line with its band for each chip, logarithmic both ways, a dot where the plan stands.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { axisIn, inkAt } from "../axis";
import { dark } from "../settings";
import { short } from "../text/format";
import { columns, inWords, type Line } from "./lines";
import { headed, type Measure, range, told } from "./measures";

const HEIGHT = 280;
const LOGARITHMIC = 3;
const MARGIN = 1.15;
/** Of lines: how they are broken tells them apart where colours do not. */
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

interface Props {
  of: Measure;
  lines: Line[];
  xs: number[];
  now: number;
  /** Such as "64 users". */
  x: (value: number) => string;
  across: string;
}

export function Chart({ of, lines, xs, now, x, across }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const data = columns(xs, lines) as uPlot.AlignedData;
  const dot = useRef(0);
  dot.current = xs.indexOf(now);
  const chips = lines.map((line) => line.chip);
  const ends = lines.some((line) => line.spans.includes(null));
  useEffect(() => {
    const box = place.current!;
    const made = new uPlot(options(box, of, chips, across, () => dot.current), data, box);
    plot.current = made;
    const fit = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: HEIGHT }));
    fit.observe(box);
    return () => {
      fit.disconnect();
      made.destroy();
    };
  }, [dark.value, of.name, chips.join("|"), across]);
  useEffect(() => plot.current?.setData(data));
  return (
    <figure class="chart">
      <div ref={place} role="img" aria-label={inWords(of, xs, lines, now, x)} />
      <figcaption class="legend">
        {chips.length > 1 && (
          <ul>
            {chips.map((chip, n) => (
              <li key={chip} class={`line-${n}`}>
                <svg viewBox="0 0 30 4" aria-hidden="true">
                  <line x1="0" x2="30" y1="2" y2="2" stroke-dasharray={DASHES[n]!.join(" ")} />
                </svg>
                {chip}
              </li>
            ))}
          </ul>
        )}
        <span class="note">
          {`The band holds the truth in 80 % of the cases.${ends ? " A line ends where its chips hold no more." : ""}`}
        </span>
      </figcaption>
    </figure>
  );
}

function options(place: HTMLElement, of: Measure, chips: string[], across: string, dot: () => number): uPlot.Options {
  const style = getComputedStyle(place);
  const ink = inkAt(style);
  const axis = { ...axisIn(style, ink), labelFont: `11px ${style.fontFamily}`, labelSize: 18 };
  return {
    width: place.clientWidth || 600,
    height: HEIGHT,
    padding: [10, 16, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    legend: { show: true, live: true },
    scales: {
      x: { time: false, distr: LOGARITHMIC, range: (_, least, most) => [least, most] },
      y: { distr: LOGARITHMIC, range: (_, least, most) => [below(least), most * MARGIN] },
    },
    axes: [
      { ...axis, size: 24, gap: 4, label: across, values: written(short) },
      { ...axis, size: 58, gap: 4, label: headed(of), values: written(of.write) },
    ],
    series: [
      { label: across, value: (_, x) => (x ? short(x) : "–") },
      ...chips.flatMap((chip, n) => drawn(chip, ink(`--line-${n}`), n, said(of), dot)),
    ],
    bands: chips.map((_, n) => ({ series: [3 * n + 2, 3 * n + 3], fill: faint(ink(`--line-${n}`), chips.length) })),
  };
}

/** The next of 1, 2, 5, 10 ... below, where the axis begins. */
function below(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [5, 2, 1].find((digit) => digit * power < value * 1.0001)!;
}

/** Ticks that the logarithmic axis keeps; those between are empty. */
function written(write: (value: number) => string) {
  return (_: uPlot, ticks: (number | null)[]) => ticks.map((tick) => (tick === null ? "" : write(tick)));
}

function drawn(chip: string, stroke: string, n: number, value: uPlot.Series.Value, dot: () => number): uPlot.Series[] {
  const points = { show: true, size: 8, stroke, fill: stroke, filter: () => [dot()] } as uPlot.Series.Points;
  const end = { class: "end", stroke: "transparent", width: 0, points: { show: false } };
  return [{ label: chip, stroke, width: 2, dash: DASHES[n % DASHES.length]!, points, value }, end, { ...end }];
}

/** The middle with its interval, which the two columns after it hold. */
function said(of: Measure): uPlot.Series.Value {
  return (plot, mid, series, at) => {
    if (mid === null || mid === undefined || at === null) return "–";
    const [high, low] = [series + 1, series + 2].map((n) => plot.data[n]?.[at] ?? mid) as [number, number];
    const between = range(of, { low, mid, high });
    return between ? `${told(of, mid)} (${between})` : told(of, mid);
  };
}

/** The colour of a band, the fainter the more of them lie over each other. */
function faint(colour: string, bands: number): string {
  return colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${bands > 1 ? 0.09 : 0.15})`);
}
