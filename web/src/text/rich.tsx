import { useLayoutEffect, useRef } from "preact/hooks";
import { toHtml } from "./markdown";
import { typeset } from "./typeset";

/** Markdown with formulas. */
export function Rich({ source }: { source: string }) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!place.current) return;
    place.current.innerHTML = toHtml(source);
    void typeset(place.current);
  }, [source]);
  return <div class="rich" ref={place} />;
}
