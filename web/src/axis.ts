// What all charts have in common: the theme's colours by name, and the style of an axis.
import type uPlot from "uplot";

export type Ink = (name: string) => string;

/** Reads `--chart-grid` and the like where the chart stands. */
export function inkAt(style: CSSStyleDeclaration): Ink {
  return (name) => style.getPropertyValue(name);
}

export function axisIn(style: CSSStyleDeclaration, ink: Ink): uPlot.Axis {
  return {
    stroke: ink("--chart-text"),
    grid: { stroke: ink("--chart-grid"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
}
