// Sets formulas with KaTeX, which is fetched from this server when the first formula appears.
// KaTeX builds elements rather than HTML here, so that its styles need no exception from the page's security policy.

type Katex = typeof import("katex").default;
let katex: Promise<Katex> | undefined;
const made = new Map<string, Node>();
const MOST_MADE = 500;

/** Replace every formula under `root` by its picture; what KaTeX cannot read stays as its source. */
export async function typeset(root: HTMLElement): Promise<void> {
  const formulas = [...root.querySelectorAll<HTMLElement>(".tex:not([data-set])")];
  if (!formulas.length) return;
  katex ??= import("./katex").then((module) => module.katex);
  const library = await katex;
  for (const formula of formulas) set(library, formula);
}

function set(library: Katex, formula: HTMLElement): void {
  const source = formula.textContent ?? "";
  const displayMode = formula.dataset["display"] === "true";
  const name = `${displayMode} ${source}`;
  let picture = made.get(name);
  if (!picture) {
    const holder = document.createElement("span");
    try {
      library.render(source, holder, { displayMode, throwOnError: true, strict: false, maxSize: 20, maxExpand: 200 });
    } catch {
      holder.textContent = source;
    }
    picture = holder;
    if (made.size >= MOST_MADE) made.clear();
    made.set(name, picture);
  }
  formula.replaceChildren(picture.cloneNode(true));
  formula.dataset["set"] = "";
}
