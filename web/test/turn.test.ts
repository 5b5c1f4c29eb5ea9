import assert from "node:assert/strict";
import test from "node:test";
import { allTokens, asked, done, failed, hear, rank, rankOf, stopped, thoughtTokens, type Chunk, type Turn } from "../src/chat/turn";

const said = (delta: object): Chunk => ({ choices: [{ delta }] });

function after(chunks: Chunk[]): Turn {
  return chunks.reduce((turn, chunk, index) => hear(turn, chunk, 100 * (index + 1)), asked("?", {}, 8, 50));
}

test("thinking is timed from its first piece to the first of the answer", () => {
  const turn = after([said({ role: "assistant" }), said({ reasoning_content: "a" }), said({ reasoning: "b" }), said({ content: "c" })]);
  assert.deepEqual([turn.thinking, turn.answer, turn.thoughtFrom, turn.thoughtTo], ["ab", "c", 200, 400]);
  assert.equal(turn.phase, "answering");
});

test("the server's count of tokens is believed before the count of pieces", () => {
  const turn = after([said({ reasoning_content: "two tokens" }), said({ content: "x" })]);
  assert.deepEqual([thoughtTokens(turn), allTokens(turn)], [1, 2]);
  const details = { completion_tokens_details: { reasoning_tokens: 2 } };
  const counted = hear(turn, { choices: [], usage: { prompt_tokens: 1, completion_tokens: 5, ...details } }, 300);
  assert.deepEqual([thoughtTokens(counted), allTokens(counted)], [2, 5]);
});

test("branches are kept apart and in order, with the class of each answer", () => {
  const turn = after([
    { raison: { event: "branch", branch: 1, reasoning_content: "x" } },
    { raison: { event: "branch", branch: 0, reasoning_content: "y" } },
    { raison: { event: "branch", branch: 1, reasoning_content: "z" } },
    { raison: { event: "ended", branch: 1, answer: "46", tokens: 9, finish: "stop" } },
    { raison: { event: "tally", classes: [{ answer: "46", weight: 1, branches: [1] }], leader: 0, why: "" } },
  ]);
  assert.deepEqual(turn.branches.map((b) => [b.number, b.thinking, b.answer, b.tokens]), [[0, "y", "", null], [1, "xz", "46", 9]]);
  assert.deepEqual([rankOf(turn, 1), rankOf(turn, 0), allTokens(turn)], [0, -1, 10]);
  assert.deepEqual(stopped(turn, 900).branches.map((b) => b.finish), ["cancelled", "stop"]);
});

test("an error in the stream stays, also when the stream then ends in order", () => {
  const turn = done(after([said({ content: "x" }), { error: { message: "broken" } }]), 900);
  assert.deepEqual([turn.phase, turn.trouble, turn.answer], ["failed", "broken", "x"]);
  assert.equal(failed(turn, "the connection ended", 950).trouble, "broken");
});

test("an answer keeps its letter when another overtakes it", () => {
  const tally = (...classes: number[][]): Chunk => ({
    raison: { event: "tally", classes: classes.map((b) => ({ answer: "", weight: b.length, branches: b })), leader: 0, why: "" },
  });
  const turn = after([tally([3]), tally([3], [1]), tally([0, 1, 2], [3])]);
  assert.deepEqual(turn.tally!.classes.map((c) => rank(turn, c)), [1, 0]);
});
