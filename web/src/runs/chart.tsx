// One figure over the steps of a stage: every step faintly, its running mean firmly; all charts share one cursor.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { axisIn, inkAt } from "../axis";
import { dark } from "../settings";
import { count, figure } from "../text/format";
import { smooth } from "./mean";
import type { Step } from "./run";

const HEIGHT = 132;

export function Chart({ name, title, steps }: { name: string; title: string; steps: Step[] }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const data = series(name, steps);
  const last = data[1].findLast((value) => value !== null);
  useEffect(() => {
    const box = place.current!;
    const made = new uPlot(options(box), data, box);
    plot.current = made;
    const fit = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: HEIGHT }));
    fit.observe(box);
    return () => {
      fit.disconnect();
      made.destroy();
    };
  }, [dark.value, name]);
  useEffect(() => plot.current?.setData(data), [steps]);
  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>
        <output>{last === undefined ? "" : figure(last!)}</output>
      </figcaption>
      <div ref={place} role="img" aria-label={inWords(title, data)} />
    </figure>
  );
}

type Data = [number[], (number | null)[], (number | null)[]];

function series(name: string, steps: Step[]): Data {
  const raw = steps.map((step) => (typeof step[name] === "number" ? step[name] : null));
  return [steps.map((step) => step.step), raw, smooth(raw)];
}

function inWords(title: string, [steps, raw]: Data): string {
  const values = raw.filter((value) => value !== null);
  if (!values.length) return `${title}: nothing measured yet`;
  const range = `between ${figure(Math.min(...values))} and ${figure(Math.max(...values))}`;
  return `${title} over ${count(steps.length)} steps: from ${figure(values[0]!)} to ${figure(values.at(-1)!)}, ${range}`;
}

function options(place: HTMLElement): uPlot.Options {
  const style = getComputedStyle(place);
  const ink = inkAt(style);
  const axis = axisIn(style, ink);
  return {
    width: place.clientWidth || 300,
    height: HEIGHT,
    padding: [8, 14, 0, 0],
    cursor: { sync: { key: "steps" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
    legend: { show: true, live: true },
    scales: { x: { time: false } },
    axes: [
      { ...axis, size: 22, gap: 2 },
      { ...axis, size: 44, gap: 4, values: (_, ticks) => ticks.map((tick) => figure(tick)) },
    ],
    series: [
      { label: "step" },
      { label: "value", stroke: ink("--chart-faint"), width: 1, points: { show: false }, value: shown },
      { label: "mean", stroke: ink("--chart-line"), width: 2, points: { show: false }, value: shown },
    ],
  };
}

function shown(_: uPlot, value: number | null): string {
  return value === null || value === undefined ? "–" : figure(value);
}
