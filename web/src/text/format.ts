// Figures as people read them; every one with its unit.

const whole = new Intl.NumberFormat("en");

export function count(value: number): string {
  return whole.format(Math.round(value));
}

/** "1 token", "1,204 tokens". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${Math.round(value) === 1 ? one : many}`;
}

/** 0.042 -> "0.04 s", 3.14 -> "3.1 s", 75 -> "1 min 15 s", 7300 -> "2 h 1 min". */
export function seconds(value: number): string {
  if (value < 1) return `${value.toFixed(2)} s`;
  if (value < 59.95) return `${value.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(value) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(value) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Money to two digits that matter, never in powers of ten: an answer may cost a millionth. */
export function dollars(value: number): string {
  if (value === 0) return "$0";
  if (value >= 0.1) return `$${value.toFixed(2)}`;
  return `$${value.toFixed(Math.min(1 - Math.floor(Math.log10(value)), 12))}`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1).replace(/\.0$/, "")} %`;
}

/** A figure of training to three digits that matter; large counts whole, as on the console. */
export function figure(value: number): string {
  if (Math.abs(value) >= 100) return count(value);
  return String(Number(value.toPrecision(3)));
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** Counts too long to be read whole, to three digits that matter: "671B", "14.8T"; smaller ones as figures. */
export function short(value: number): string {
  return Math.abs(value) >= 1e5 ? compact.format(value) : figure(value);
}

/** A class of answers by its letter, so that its colour carries no meaning alone: A ... Z, A2 ... */
export function letter(index: number): string {
  const round = Math.floor(index / 26);
  return String.fromCharCode(65 + (index % 26)) + (round ? String(round + 1) : "");
}
