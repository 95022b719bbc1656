// Turns from keys, swipes and the pad. 0 up, 1 right, 2 down, 3 left.

const KEYS = {
  ArrowUp: 0, ArrowRight: 1, ArrowDown: 2, ArrowLeft: 3,
  KeyW: 0, KeyD: 1, KeyS: 2, KeyA: 3,
};

/** A finger turns after this many pixels, and again after as many more: no lifting needed. */
const SWIPE_PX = 22;

/** `playing()` tells whether turns are wanted; `turn(d)` takes one; `again()` is Space or Enter. */
export function listen(surface, pad, { playing, turn, again }) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("form")) return;
    if (playing() && event.code in KEYS) {
      event.preventDefault();
      if (!event.repeat) turn(KEYS[event.code]);
    } else if ((event.code === "Space" || event.code === "Enter") &&
               !event.target.closest?.("button")) {
      if (again()) event.preventDefault();
    }
  });

  let from = null;
  surface.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") return;
    from = { x: event.clientX, y: event.clientY };
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    if (!from || !playing()) return;
    const x = event.clientX - from.x;
    const y = event.clientY - from.y;
    if (Math.max(Math.abs(x), Math.abs(y)) < SWIPE_PX) return;
    turn(Math.abs(x) > Math.abs(y) ? (x > 0 ? 1 : 3) : (y > 0 ? 2 : 0));
    from = { x: event.clientX, y: event.clientY };
  });
  for (const end of ["pointerup", "pointercancel"]) {
    surface.addEventListener(end, () => { from = null; });
  }

  pad.addEventListener("pointerdown", (event) => {
    const button = event.target.closest("[data-turn]");
    if (!button) return;
    event.preventDefault();
    turn(Number(button.dataset.turn));
  });
  // Keyboards and screen readers click without a pointer.
  pad.addEventListener("click", (event) => {
    const button = event.target.closest("[data-turn]");
    if (button && event.detail === 0) turn(Number(button.dataset.turn));
  });
}
