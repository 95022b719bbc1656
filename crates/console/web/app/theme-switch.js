// The theme: the system's, light or dark.

import { effect, signal } from "./lib.js";

const system = matchMedia("(prefers-color-scheme: dark)");

/** `auto`, `light` or `dark`. */
export const theme = signal(document.documentElement.dataset.theme ?? "auto");
const systemDark = signal(system.matches);
system.addEventListener("change", () => { systemDark.value = system.matches; });

/** The next of the three. */
export function turnTheme() {
  const next = { auto: "light", light: "dark", dark: "auto" }[theme.value];
  const root = document.documentElement;
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  // After the attribute: who draws anew reads the new colours.
  theme.value = next;
  try {
    if (next === "auto") localStorage.removeItem("ms-theme");
    else localStorage.setItem("ms-theme", next);
  } catch { /* storage is off: the choice lasts as long as the page */ }
}

/** Calls `draw` now and whenever the colours change. Returns how to stop. */
export const themed = (draw) => effect(() => {
  void theme.value;
  void systemDark.value;
  draw();
});
