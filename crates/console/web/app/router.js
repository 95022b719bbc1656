// Pages by URL: the path chooses the page, the query is its state.

import { signal } from "./lib.js";

const read = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });

/** Where we are: `{path, query}`. */
export const place = signal(read());

/** Goes to a page of the console. */
export function go(href) {
  if (href === location.pathname + location.search) return;
  history.pushState(null, "", href);
  place.value = read();
  scrollTo(0, 0);
  // A reader is told where it is, as after a full load.
  requestAnimationFrame(() => document.querySelector("h1")?.focus({ preventScroll: true }));
}

/** Changes parameters of this page's URL, without an entry in the history; null removes. */
export function amend(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const one of [value].flat()) if (one !== null && one !== "") query.append(name, one);
  }
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
  place.value = read();
}

/** The page of a service. */
export const serviceHref = (name) => `/services/${encodeURIComponent(name)}`;

addEventListener("popstate", () => { place.value = read(); });
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey
    && !event.altKey && !event.defaultPrevented;
  if (!link || !plain || link.target) return;
  // The links of the map are SVG, whose `href` is an object.
  const href = link.getAttribute("href");
  if (!href.startsWith("/") || href.startsWith("/api") || href === "/metrics") return;
  event.preventDefault();
  go(href);
});
