// What is being planned, and as the part of the address after #, so that a plan can be kept and handed on.

export type Kind = "serve" | "train";

export interface Plan {
  kind: Kind;
  model: string;
  chip: string;
  /** Further chips to compare with. */
  versus: string[];
  /** "" is what the model is mostly served or trained in. */
  precision: string;
  /** Dollars a chip-hour; 0 is the catalogue's price of each chip. */
  price: number;
  /** Chips of an instance that serves. */
  chips: number;
  users: number;
  input: number;
  output: number;
  /** Chips that train, tokens to train on, tokens of a sequence. */
  fleet: number;
  tokens: number;
  sequence: number;
  /** Which figure is drawn; "" is the first. */
  drawn: string;
}

export const FIRST: Plan = {
  kind: "serve",
  model: "DeepSeek-R1",
  chip: "H200 SXM",
  versus: [],
  precision: "",
  price: 0,
  chips: 8,
  users: 64,
  input: 1024,
  output: 1024,
  fleet: 2048,
  tokens: 14.8e12,
  sequence: 4096,
  drawn: "",
};
/** What the server takes; whole numbers all but the price. */
export const LIMITS = {
  price: [0, 1000],
  chips: [1, 4096],
  users: [1, 65536],
  input: [1, 1048576],
  output: [1, 1048576],
  fleet: [1, 1048576],
  tokens: [1e6, 1e15],
  sequence: [128, 1048576],
} as const satisfies Partial<Record<keyof Plan, readonly [number, number]>>;
export type Amount = keyof typeof LIMITS;

export const MOST_VERSUS = 3;
const PLACE = "#/plan";
const SHARED = ["model", "chip", "precision", "price"] as const;
const OF_KIND = { serve: ["chips", "users", "input", "output"], train: ["fleet", "tokens", "sequence"] } as const;

export function written(plan: Plan): string {
  const query = new URLSearchParams();
  for (const name of [...SHARED, ...OF_KIND[plan.kind], "drawn"] as const) {
    if (plan[name]) query.set(name, String(plan[name]));
  }
  for (const chip of plan.versus) query.append("versus", chip);
  return `${PLACE}/${plan.kind}?${query}`;
}

/** The plan that an address holds; what it leaves out or says wrongly is as at first. Without any, `old` stays. */
export function read(hash: string, old: Plan): Plan {
  const [place, query] = hash.split("?", 2);
  const kind: Kind = place === `${PLACE}/train` ? "train" : place === `${PLACE}/serve` ? "serve" : old.kind;
  if (query === undefined) return { ...old, kind };
  const said = new URLSearchParams(query);
  const plan: Plan = { ...FIRST, kind };
  for (const name of ["model", "chip", "precision", "drawn"] as const) plan[name] = said.get(name) ?? FIRST[name];
  for (const name of Object.keys(LIMITS) as Amount[]) plan[name] = within(name, said.get(name)) ?? FIRST[name];
  plan.versus = [...new Set(said.getAll("versus"))].filter((chip) => chip !== plan.chip).slice(0, MOST_VERSUS);
  return plan;
}

/** What was typed as an amount, if it is one that the server takes. */
export function within(name: Amount, typed: string | number | null): number | null {
  const value = typed === null || typed === "" ? NaN : Number(typed);
  const amount = name === "price" ? value : Math.round(value);
  const [least, most] = LIMITS[name];
  return amount >= least && amount <= most ? amount : null;
}
