// A vote: the tally as it forms, and the branches side by side, each with the letter of the answer that it came to.
import { useState } from "preact/hooks";
import { count, letter, plural } from "../text/format";
import { Words } from "./thought";
import { rank, rankOf, running, type Branch, type Class, type Turn } from "./turn";

const COLOURS = 6;

export function Vote({ turn }: { turn: Turn }) {
  const live = running(turn) && turn.phase !== "answering";
  const [chosen, choose] = useState<boolean | null>(null);
  const open = chosen ?? live;
  const spent = turn.branches.reduce((sum, b) => sum + (b.tokens ?? b.pieces), 0);
  const ended = turn.branches.filter((b) => b.finish).length;
  const all = plural(turn.branches.length, "branch", "branches");
  const headline = live ? `${all}, ${count(ended)} done` : `${all}, ${plural(spent, "token")}`;
  return (
    <div class="vote" data-live={live}>
      {turn.tally && <Bars turn={turn} />}
      <button type="button" class="fold" aria-expanded={open} onClick={() => choose(!open)}>
        <span class="mark" aria-hidden="true" />
        <span>{headline}</span>
      </button>
      {open && (
        <ol class="branches">
          {turn.branches.map((branch) => (
            <Card key={branch.number} branch={branch} number={rankOf(turn, branch.number)} />
          ))}
        </ol>
      )}
    </div>
  );
}

function Bars({ turn }: { turn: Turn }) {
  const { classes, leader, why } = turn.tally!;
  const all = classes.reduce((sum, c) => sum + c.weight, 0) || 1;
  const leads = leader === null ? undefined : classes[leader];
  const later = (one: Class) => (one === leads ? -1 : rank(turn, one)); // of equals the leader comes first
  const order = classes.toSorted((a, b) => b.weight - a.weight || later(a) - later(b));
  return (
    <div class="tally">
      <ol aria-label="Tally of the answers">
        {order.map((one) => (
          <li key={rank(turn, one)}>
            <Letter number={rank(turn, one)} />
            <span class="said">{one.answer || "(no answer)"}</span>
            <span class={`bar ${colour(rank(turn, one))}`} aria-hidden="true">
              <span style={{ width: `${(100 * one.weight) / all}%` }} />
            </span>
            <span class="share">{share(one)}</span>
            {one === leads && <span class="leads">{running(turn) ? "leads" : "chosen"}</span>}
          </li>
        ))}
      </ol>
      {why && <p class="why">{why}</p>}
    </div>
  );
}

function Card({ branch, number }: { branch: Branch; number: number }) {
  const live = !branch.finish;
  return (
    <li class={`branch ${number >= 0 ? colour(number) : ""}`} data-live={live}>
      <header>
        {number >= 0 ? <Letter number={number} /> : <span class="mark" aria-hidden="true" />}
        <span>{`Branch ${branch.number + 1}`}</span>
        <span class="count">{told(branch)}</span>
      </header>
      <Words text={branch.thinking} live={live} name={`Thinking of branch ${branch.number + 1}`} />
      {branch.answer && <p class="said">{branch.answer}</p>}
    </li>
  );
}

function Letter({ number }: { number: number }) {
  return <span class={`letter ${colour(number)}`}>{letter(number)}</span>;
}

function colour(number: number): string {
  return `colour-${number % COLOURS}`;
}

/** "5 votes"; where votes have weights, the weight beside them. */
function share({ branches, weight }: Class): string {
  const told = plural(branches.length, "vote");
  return weight === branches.length ? told : `${told}, weight ${weight.toFixed(2)}`;
}

function told(branch: Branch): string {
  const tokens = branch.tokens === null ? `${count(branch.pieces)}+ tokens` : plural(branch.tokens, "token");
  return tokens + ending(branch);
}

function ending(branch: Branch): string {
  if (branch.finish === "cancelled") return ", stopped";
  return branch.finish === "length" ? ", cut off" : "";
}
