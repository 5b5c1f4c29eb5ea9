import assert from "node:assert/strict";
import test from "node:test";
import { columns, inWords, lines } from "../src/plan/lines";
import { measure, range, told } from "../src/plan/measures";
import { over, request } from "../src/plan/request";
import { FIRST, type Plan, read, within, written } from "../src/plan/state";
import { nearest, STOPS } from "../src/plan/stops";
import type { Answer, Span } from "../src/plan/wire";

const serving: Plan = { ...FIRST, model: "671e9/37e9", chip: "A / B", versus: ["C & D"], users: 100, price: 2.5, drawn: "usd" };

test("a plan survives its address", () => {
  assert.deepEqual(read(written(serving), FIRST), serving);
  const training: Plan = { ...FIRST, kind: "train", fleet: 512, tokens: 3e12, precision: "fp8" };
  assert.deepEqual(read(written(training), FIRST), training);
});

test("an address that says nothing keeps the plan, one that says nonsense is as at first", () => {
  assert.deepEqual(read("#/plan", serving), serving);
  assert.equal(read("#/plan/train", serving).kind, "train");
  assert.deepEqual(read("#/plan/serve?chips=-3&users=x&input=1e99&versus=H200+SXM", serving), FIRST);
});

test("no more chips are compared than there are lines for", () => {
  assert.deepEqual(read("#/plan/serve?versus=a&versus=b&versus=b&versus=c&versus=d", FIRST).versus, ["a", "b", "c"]);
});

test("an amount is a number that the server takes, whole but for prices", () => {
  assert.deepEqual([within("users", "12.4"), within("price", "1.25"), within("tokens", "14.8e12")], [12, 1.25, 14.8e12]);
  assert.deepEqual(["", "0", "-1", "NaN", "1e9"].map((typed) => within("users", typed)), [null, null, null, null, null]);
});

test("sliders stand at amounts that the server takes, in rising order, and near what was typed", () => {
  for (const [name, stops] of Object.entries(STOPS)) {
    assert.equal(stops.every((stop, n) => (n === 0 || stop > stops[n - 1]!) && within(name as never, stop) === stop), true);
  }
  const { users, tokens } = STOPS;
  assert.deepEqual([users[nearest(users, 100)], tokens[nearest(tokens, 14.8e12)]], [96, 1.5e13]);
});

test("a question has what its kind needs, and the price goes to the first chip only", () => {
  const asked = request(serving, "A / B");
  assert.deepEqual([asked["streams"], asked["usd_per_hour"], asked["tokens"]], [100, 2.5, undefined]);
  assert.equal("usd_per_hour" in request(serving, "C & D"), false);
  assert.deepEqual(Object.keys(request({ ...FIRST, kind: "train" }, "x")), ["model", "chip", "chips", "tokens", "sequence", "curve"]);
});

test("figures are drawn over amounts around the plan's own, no more than the server takes", () => {
  for (const users of [1, 100, 65536]) {
    const xs = over({ ...FIRST, users });
    assert.equal(xs.includes(users) && xs.length <= 24 && xs.every((x) => x >= 1 && x <= 65536), true);
  }
  const tokens = over({ ...FIRST, kind: "train", tokens: 1e15 });
  assert.equal(tokens.at(-1) === 1e15 && tokens.length <= 24, true);
});

const span = (mid: number): Span => ({ low: mid / 2, mid, high: mid * 2 });
const answer = (chip: string, points: [number, number][]): Answer =>
  ({ chip, curve: points.map(([at, mid]) => ({ at, figures: { user: span(mid) } })) }) as unknown as Answer;

test("lines have a gap where a chip holds no more", () => {
  const all = lines([answer("a", [[1, 10], [2, 8]]), answer("b", [[1, 20]])], "user", [1, 2]);
  assert.deepEqual(columns([1, 2], all), [[1, 2], [10, 8], [20, 16], [5, 4], [20, null], [40, null], [10, null]]);
});

test("what is drawn is also said", () => {
  const of = measure("serve", "user");
  const all = lines([answer("a", [[1, 10], [64, 8]]), answer("b", [])], "user", [1, 64, 512]);
  assert.equal(
    inWords(of, [1, 64, 512], all, 64, (users) => `${users} users`),
    "speed per user. a: 10 tokens/s at 1 users (5 to 20 tokens/s), 8 tokens/s at 64 users (4 to 16 tokens/s). b: no figure.",
  );
});

test("figures of a plan read as people write them", () => {
  const [ttft, usd, days] = [measure("serve", "ttft"), measure("train", "usd"), measure("train", "days")];
  assert.deepEqual([0.0421, 0.65, 3.2].map((s) => told(ttft, s)), ["42.1 ms", "650 ms", "3.2 s"]);
  assert.deepEqual([0.52, 5_576_000].map((s) => told(usd, s)), ["$0.52", "$5.58M"]);
  assert.deepEqual([0.5, 54.7, 3652.5].map((d) => told(days, d)), ["12 h", "54.7 days", "10 years"]);
  assert.equal(range(usd, { low: 1, mid: 1, high: 1 }), "");
});

test("an unknown figure draws the first", () => {
  assert.equal(measure("train", "nonsense").name, "days");
});
