import { useLayoutEffect, useRef } from "preact/hooks";
import { plainToHtml, toHtml } from "./markdown";
import { typeset } from "./typeset";

/** Markdown with formulas. */
export function Rich({ source }: { source: string }) {
  return <div class="rich" ref={useHtml(toHtml(source))} />;
}

/** Plain text with formulas. */
export function Plain({ source }: { source: string }) {
  return <div ref={useHtml(plainToHtml(source))} />;
}

function useHtml(html: string) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!place.current) return;
    place.current.innerHTML = html;
    void typeset(place.current);
  }, [html]);
  return place;
}
