// Where the nodes of the map stand: left to right by call depth. Pure.
//
// Layers by longest path (cycles are cut at the edge that closes them), callers that nobody calls
// beside what they share with others, order within a layer by the mean of the neighbours, and
// heights settled by a few passes. Edges over several layers get a way-point in each.

export const NODE = { width: 152, height: 56 };
/** The node of clients outside the app has the empty id and is narrower. */
export const OUTSIDE_WIDTH = 84;
const GAP = { x: 98, y: 20 };
const PASSES = 12;

/** `nodes`: ids. `edges`: `{from, to}`. Returns `{width, height, at: Map(id → {x, y}), ways}`. */
export function layout(nodes, edges) {
  const forward = cutCycles(nodes, edges);
  const layer = layers(nodes, forward);
  const columns = [];
  const place = (id, column) => (columns[column] ??= []).push(id);
  nodes.forEach((id) => place(id, layer.get(id)));

  // Way-points stand in the columns like nodes, but thin.
  const links = [];
  const thin = new Set();
  const ways = new Map();
  for (const edge of edges) {
    const [from, to] = [layer.get(edge.from), layer.get(edge.to)];
    const steps = [];
    for (let column = from + 1; column < to; column += 1) {
      const id = `${edge.from}\u0000${edge.to}\u0000${column}`;
      thin.add(id);
      place(id, column);
      steps.push(id);
    }
    const all = [edge.from, ...steps, edge.to];
    if (to > from) for (let i = 1; i < all.length; i += 1) links.push([all[i - 1], all[i]]);
    ways.set(edge, steps);
  }

  const near = new Map();
  const add = (a, b, side) => {
    if (!near.has(a)) near.set(a, { left: [], right: [] });
    near.get(a)[side].push(b);
  };
  for (const [a, b] of links) {
    add(a, b, "right");
    add(b, a, "left");
  }
  const size = (id) => thin.has(id) ? 14 : NODE.height;
  const y = new Map();
  for (const column of columns) stack(column, size, y);
  for (let pass = 0; pass < PASSES; pass += 1) {
    const down = pass % 2 === 0;
    const order = down ? columns : [...columns].reverse();
    for (const column of order) {
      const pull = new Map(column.map((id) => {
        const sides = near.get(id) ?? { left: [], right: [] };
        const side = pass >= PASSES - 4 ? [...sides.left, ...sides.right]
          : down ? sides.left : sides.right;
        const others = side.length > 0 ? side : [...sides.left, ...sides.right];
        const mean = others.reduce((sum, other) => sum + y.get(other), 0) / others.length;
        return [id, others.length > 0 ? mean : y.get(id)];
      }));
      if (pass < PASSES - 4) column.sort((a, b) => pull.get(a) - pull.get(b) || y.get(a) - y.get(b));
      settle(column, pull, size, y);
    }
  }

  const top = Math.min(...nodes.map((id) => y.get(id) - NODE.height / 2), Infinity);
  const bottom = Math.max(...nodes.map((id) => y.get(id) + NODE.height / 2), -Infinity);
  // A column of clients alone is as narrow as they are.
  const widths = columns.map((column) => column.every((id) => id === "" || thin.has(id)) ? OUTSIDE_WIDTH : NODE.width);
  const lefts = widths.map((_, column) => widths.slice(0, column).reduce((sum, one) => sum + one + GAP.x, 0));
  const point = (id, column) => ({ x: lefts[column] + widths[column] / 2, y: y.get(id) - top });
  const at = new Map(nodes.map((id) => [id, point(id, layer.get(id))]));
  const through = new Map();
  for (const [edge, steps] of ways) {
    const from = layer.get(edge.from);
    through.set(edge, steps.map((id, index) => point(id, from + 1 + index)));
  }
  const width = columns.length > 0 ? lefts.at(-1) + widths.at(-1) : 0;
  return { width, height: Math.max(0, bottom - top), at, ways: through };
}

/** The edges without those that close a cycle, found depth first in the order given. */
function cutCycles(nodes, edges) {
  const out = new Map(nodes.map((id) => [id, []]));
  edges.forEach((edge) => out.get(edge.from).push(edge));
  const called = new Set(edges.map((edge) => edge.to));
  const state = new Map();
  const kept = [];
  const visit = (root) => {
    const stack = [{ id: root, next: 0 }];
    state.set(root, "open");
    while (stack.length > 0) {
      const frame = stack.at(-1);
      const edge = out.get(frame.id)[frame.next];
      frame.next += 1;
      if (!edge) {
        state.set(frame.id, "done");
        stack.pop();
      } else if (state.get(edge.to) !== "open") {
        kept.push(edge);
        if (!state.has(edge.to)) {
          state.set(edge.to, "open");
          stack.push({ id: edge.to, next: 0 });
        }
      }
    }
  };
  for (const id of nodes) if (!called.has(id)) visit(id);
  for (const id of nodes) if (!state.has(id)) visit(id);
  return kept;
}

/** The column of each node. `edges` have no cycle. */
function layers(nodes, edges) {
  const base = new Map(nodes.map((id) => [id, 0]));
  const first = longest(base, edges);
  const called = new Set(edges.map((edge) => edge.to));
  for (const id of nodes) {
    if (id === "" || called.has(id)) continue;
    const targets = edges.filter((edge) => edge.from === id).map((edge) => edge.to);
    const shared = targets.filter((to) => edges.some((edge) => edge.to === to && edge.from !== id));
    const beside = (shared.length > 0 ? shared : targets).map((to) => first.get(to) - 1);
    if (beside.length > 0) base.set(id, Math.max(0, Math.min(...beside)));
  }
  // No column is left empty by those that have moved.
  const layer = longest(base, edges);
  const used = [...new Set(layer.values())].sort((a, b) => a - b);
  return new Map([...layer].map(([id, column]) => [id, used.indexOf(column)]));
}

/** Each node right of all its callers, and no further left than `base`. */
function longest(base, edges) {
  const layer = new Map(base);
  let moved = true;
  while (moved) {
    moved = false;
    for (const { from, to } of edges) {
      if (layer.get(to) < layer.get(from) + 1) {
        layer.set(to, layer.get(from) + 1);
        moved = true;
      }
    }
  }
  return layer;
}

function stack(column, size, y) {
  let at = 0;
  for (const id of column) {
    y.set(id, at + size(id) / 2);
    at += size(id) + GAP.y;
  }
  for (const id of column) y.set(id, y.get(id) - at / 2);
}

/** Moves each toward its pull, in order, none nearer than the gap; the column keeps its mean. */
function settle(column, pull, size, y) {
  const gap = (a, b) => (size(a) + size(b)) / 2 + GAP.y;
  column.forEach((id, index) => {
    const wish = pull.get(id);
    const above = column[index - 1];
    y.set(id, above === undefined ? wish : Math.max(wish, y.get(above) + gap(above, id)));
  });
  const drift = column.reduce((sum, id) => sum + y.get(id) - pull.get(id), 0) / column.length;
  if (Number.isFinite(drift)) column.forEach((id) => y.set(id, y.get(id) - drift));
}
