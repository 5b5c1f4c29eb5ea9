// Where a slider can stand: amounts that people say, each a like factor from the next.
import { type Amount, LIMITS } from "./state";

/** 1, 2, 3, 4, 6, 8, 12 ...: powers of two and what lies halfway, from `least` to `most`. */
export function binary(least: number, most: number): number[] {
  const powers = Array.from({ length: 1 + Math.ceil(Math.log2(most)) }, (_, power) => 2 ** power);
  return powers.flatMap((n) => (n === 1 ? [n] : [n, 1.5 * n])).filter((n) => n >= least && n <= most);
}

/** 1, 1.5, 2, 3, 5, 7, 10 ... */
export function decimal(least: number, most: number): number[] {
  const first = Math.floor(Math.log10(least));
  const decades = Array.from({ length: 1 + Math.ceil(Math.log10(most)) - first }, (_, n) => first + n);
  const all = decades.flatMap((power) => [1, 1.5, 2, 3, 5, 7].map((digit) => Number(`${digit}e${power}`)));
  return all.filter((n) => n >= least && n <= most);
}

export const STOPS: Record<Amount, number[]> = {
  price: decimal(0.01, 100),
  chips: binary(...LIMITS.chips),
  users: binary(...LIMITS.users),
  input: binary(16, LIMITS.input[1]),
  output: binary(16, LIMITS.output[1]),
  fleet: binary(1, 131072),
  tokens: decimal(1e8, 1e14),
  sequence: binary(512, LIMITS.sequence[1]),
};

/** The stop nearest to an amount, by its factor. */
export function nearest(stops: number[], amount: number): number {
  const far = stops.map((stop) => Math.abs(Math.log(stop / amount)));
  return far.indexOf(Math.min(...far));
}

/** Amounts to draw a figure over: powers of two or of ten's half around `amount`, and `amount` itself. */
export function around(amount: number, from: number, factor: number, count: number): number[] {
  const grid = Array.from({ length: count }, (_, n) => Math.round(from * factor ** n));
  return [...new Set([...grid, amount])].sort((a, b) => a - b);
}
