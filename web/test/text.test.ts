import assert from "node:assert/strict";
import test from "node:test";
import { dollars, figure, letter, plural, seconds } from "../src/text/format";
import { plainToHtml, toHtml } from "../src/text/markdown";

const formulas = (source: string) => [...toHtml(source).matchAll(/<span class="tex" data-display="(\w+)">([^<]*)</g)].map((m) => [m[1], m[2]]);

test("formulas are found in all four of their fences", () => {
  assert.deepEqual(formulas("$a$ and \\(b\\)"), [["false", "a"], ["false", "b"]]);
  assert.deepEqual(formulas("$$c$$\n\n\\[ d \\]"), [["true", "c"], ["true", "d"]]);
});

test("a formula on lines of its own is no Markdown inside", () => {
  assert.deepEqual(formulas("so\n\\[\n- x_1 * y\n= 2 * z_1\n\\]\nend"), [["true", "- x_1 * y\n= 2 * z_1"]]);
});

test("prices, code and what never ends are no formulas", () => {
  for (const source of ["$5 and $6", "`$x$`", "$ x $", "\\[ open", "a $x", "$6. `$x$`"]) assert.deepEqual(formulas(source), []);
});

test("products keep their stars, emphasis works", () => {
  assert.match(toHtml("3*7*25 and 2**3**4 and (1)*(2)*3"), /3\*7\*25 and 2\*\*3\*\*4 and \(1\)\*\(2\)\*3/);
  assert.match(toHtml("*so* **be** it"), /<em>so<\/em> <strong>be<\/strong>/);
});

test("HTML is shown, scripts do not become links, pictures are not fetched", () => {
  const html = toHtml("<img src=x onerror=alert(1)> [a](javascript:alert(1)) ![p](http://example.invalid/p.png)");
  assert.doesNotMatch(html, /<img|<script|href="javascript/i);
  assert.doesNotMatch(toHtml("$<img src=x>$"), /<img/);
});

test("figures read as people write them", () => {
  assert.deepEqual([0.042, 3.14, 59.96, 75, 7300].map(seconds), ["0.04 s", "3.1 s", "1 min 0 s", "1 min 15 s", "2 h 1 min"]);
  assert.deepEqual([0, 0.0000021, 0.0123, 1.5].map(dollars), ["$0", "$0.0000021", "$0.012", "$1.50"]);
  assert.deepEqual([1, 1204].map((n) => plural(n, "token")), ["1 token", "1,204 tokens"]);
  assert.deepEqual([0.94726, 128.4, 12345.6, 0].map(figure), ["0.947", "128", "12,346", "0"]);
  assert.deepEqual([0, 25, 26].map(letter), ["A", "Z", "A2"]);
});

test("thoughts are plain text but for their formulas", () => {
  const html = plainToHtml("- *a*\n\n  <b>  # $x$ \\[ y \\] `c` 3*7*2");
  assert.equal(
    html,
    '- *a*\n\n  &lt;b&gt;  # <span class="tex" data-display="false">x</span> ' +
      '<span class="tex" data-display="true">y</span> `c` 3*7*2',
  );
});
