import assert from "node:assert/strict";
import test from "node:test";
import { joined, type Run } from "../src/runs/run";
import { smooth } from "../src/runs/mean";

const run = (shown: string, step: number, steps: number[]): Run =>
  ({ shown, stages: [{ name: shown, step }], metrics: steps.map((n) => ({ step: n })) }) as unknown as Run;

const steps = (of: Run) => of.metrics.map((m) => m.step);

test("new steps go after the known ones", () => {
  assert.deepEqual(steps(joined(run("grpo", 2, [1, 2]), run("grpo", 4, [3, 4]))), [1, 2, 3, 4]);
});

test("a run that was resumed from an earlier step takes back the later ones", () => {
  assert.deepEqual(steps(joined(run("grpo", 4, [1, 2, 3, 4]), run("grpo", 2, []))), [1, 2]);
});

test("another stage begins afresh", () => {
  assert.deepEqual(steps(joined(run("sft", 2, [1, 2]), run("grpo", 1, [1]))), [1]);
});

test("the running mean starts at the first value and passes over gaps", () => {
  const means = smooth([4, null, 4, 0]);
  assert.deepEqual(means.slice(0, 3).map((m) => m && Math.round(m * 1e9) / 1e9), [4, null, 4]);
  assert.equal(means[3]! < 4 && means[3]! > 0, true);
});
