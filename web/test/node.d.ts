// As much of node's types as the tests use; the page itself has no node.
declare module "node:test" {
  export default function test(name: string, body: () => void): void;
}
declare module "node:assert/strict" {
  const assert: {
    equal(actual: unknown, expected: unknown): void;
    deepEqual(actual: unknown, expected: unknown): void;
    match(actual: string, expected: RegExp): void;
    doesNotMatch(actual: string, expected: RegExp): void;
  };
  export default assert;
}
