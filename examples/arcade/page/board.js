// The board: keeps what the arena says and draws it, gliding between ticks.
// Not here: the network, the menu, the lists beside the board.

export const COLOURS = [
  "#2fbf8f", "#f2a541", "#e4572e", "#5b8def", "#c77dff", "#ef6f9f", "#8fb339", "#2bb3c0",
];

const narrow = matchMedia("(max-width: 800px)");
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

export class Board {
  constructor(canvas) {
    this.canvas = canvas;
    this.brush = canvas.getContext("2d");
    this.players = new Map();
    this.food = new Map();
    this.sparks = [];
    this.size = { width: 44, height: 28 };
    this.period = 100;
    this.you = null;
    this.tickAt = 0;
    this.readTheme();
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.readTheme());
    new ResizeObserver(() => this.fit()).observe(canvas.parentElement);
    const frame = (now) => {
      this.draw(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.theme = {
      board: colour("--board"), dot: colour("--dot"), line: colour("--line"),
      food: colour("--warn"), ink: colour("--ink"), soft: colour("--soft"),
    };
  }

  /** Whole device pixels per cell, so that lines are crisp on every screen. */
  fit() {
    const room = this.canvas.parentElement.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    const { width, height } = this.size;
    // On a narrow page the frame is as high as the board, so only the width says anything.
    const high = narrow.matches ? innerHeight * 0.7 : room.height;
    const fits = Math.min(room.width / (width + 1), high / (height + 1));
    this.cell = Math.max(4, Math.floor(fits * ratio));
    this.canvas.width = this.cell * (width + 1);
    this.canvas.height = this.cell * (height + 1);
    this.canvas.style.width = `${this.canvas.width / ratio}px`;
    this.canvas.style.height = `${this.canvas.height / ratio}px`;
  }

  welcome(message) {
    this.size = { width: message.width, height: message.height };
    this.period = message.period_ms;
    this.you = message.you;
    this.fit();
  }

  state(message) {
    const before = this.players;
    this.players = new Map();
    for (const player of message.players) {
      const known = before.get(player.id);
      const same = known && String(known.cells) === String(player.cells);
      const fresh = player.cells.length > 0 && !(known && known.cells.length > 0);
      this.players.set(player.id, {
        ...player,
        moved: same ? known.moved : false,
        oldTail: same ? known.oldTail : null,
        cameAt: fresh ? performance.now() : known?.cameAt ?? 0,
      });
    }
    const grown = this.food;
    this.food = new Map(message.food.map((cell) => [String(cell), grown.get(String(cell)) ?? 0]));
  }

  tick(message) {
    const now = performance.now();
    // A grace that ends between ticks tells of deaths only; it moves nobody.
    if (message.moves || !message.dead) {
      this.tickAt = now;
      for (const player of this.players.values()) player.moved = false;
    }
    for (const cell of message.eaten ?? []) this.food.delete(String(cell));
    for (const [id, head, grew] of message.moves ?? []) {
      const player = this.players.get(id);
      if (!player || player.cells.length === 0) continue;
      player.cells.unshift(head);
      player.oldTail = grew ? null : player.cells.pop();
      player.moved = true;
    }
    for (const cell of message.placed ?? []) this.food.set(String(cell), now);
    for (const [id] of message.dead ?? []) {
      const player = this.players.get(id);
      if (!player) continue;
      if (!reducedMotion.matches) this.burst(player, now);
      player.cells = [];
    }
    for (const [id, score] of message.points ?? []) {
      const player = this.players.get(id);
      if (player) player.score = score;
    }
    this.atWall = new Set(message.wall ?? []);
  }

  burst(player, at) {
    for (const [x, y] of player.cells.slice(0, 60)) {
      const angle = Math.random() * 2 * Math.PI;
      this.sparks.push({ x, y, angle, at, colour: COLOURS[player.colour] });
    }
  }

  draw(now) {
    const { brush, cell } = this;
    if (!cell) return;
    const { width, height } = this.size;
    brush.setTransform(1, 0, 0, 1, 0, 0);
    brush.fillStyle = this.theme.board;
    brush.fillRect(0, 0, this.canvas.width, this.canvas.height);
    // Cell centres: half a cell of wall all around.
    brush.setTransform(cell, 0, 0, cell, cell, cell);
    this.drawGround(width, height);
    for (const [key, since] of this.food) this.drawFood(key.split(",").map(Number), since, now);
    const glide = Math.min(1, (now - this.tickAt) / this.period);
    for (const player of this.players.values()) {
      if (player.cells.length > 0 && player.id !== this.you) this.drawSnake(player, glide, now);
    }
    const mine = this.players.get(this.you);
    if (mine && mine.cells.length > 0) this.drawSnake(mine, glide, now);
    this.drawSparks(now);
  }

  drawGround(width, height) {
    const { brush, theme } = this;
    brush.fillStyle = theme.dot;
    for (let x = 0; x < width; x += 1) {
      for (let y = 0; y < height; y += 1) brush.fillRect(x - 0.05, y - 0.05, 0.1, 0.1);
    }
    brush.strokeStyle = theme.line;
    brush.lineWidth = 0.14;
    brush.beginPath();
    brush.roundRect(-0.62, -0.62, width + 0.24, height + 0.24, 0.5);
    brush.stroke();
  }

  drawFood([x, y], since, now) {
    const { brush, theme } = this;
    const grown = reducedMotion.matches ? 1 : Math.min(1, (now - since) / 180);
    const beat = reducedMotion.matches ? 0 : 0.03 * Math.sin(now / 260 + x * 3 + y);
    brush.fillStyle = theme.food;
    brush.beginPath();
    brush.arc(x, y, Math.max(0, (0.27 + beat) * grown), 0, 2 * Math.PI);
    brush.fill();
  }

  /** The body as one line: the head glides into its cell, the tail out of its last one. */
  line(player, glide) {
    const cells = player.cells;
    if (!player.moved || cells.length < 2) return cells;
    const mix = (from, to) => [
      from[0] + (to[0] - from[0]) * glide, from[1] + (to[1] - from[1]) * glide,
    ];
    const points = [mix(cells[1], cells[0]), ...cells.slice(1)];
    if (player.oldTail) points.push(mix(player.oldTail, cells[cells.length - 1]));
    return points;
  }

  drawSnake(player, glide, now) {
    const { brush, theme } = this;
    const points = this.line(player, glide);
    const trace = () => {
      brush.beginPath();
      brush.moveTo(...points[0]);
      for (const point of points.slice(1)) brush.lineTo(...point);
      brush.stroke();
    };
    brush.lineCap = "round";
    brush.lineJoin = "round";
    // A new snake blinks, so that its player finds it.
    const age = now - player.cameAt;
    const blink = age < 900 && !reducedMotion.matches && Math.floor(age / 150) % 2 === 1;
    brush.globalAlpha = blink ? 0.45 : 1;
    if (player.id === this.you) {
      brush.strokeStyle = theme.ink;
      brush.lineWidth = 0.92;
      trace();
    }
    brush.strokeStyle = COLOURS[player.colour];
    brush.lineWidth = player.id === this.you ? 0.74 : 0.78;
    trace();
    brush.globalAlpha = 1;
    this.drawHead(player, points);
  }

  drawHead(player, points) {
    const { brush, theme } = this;
    const [x, y] = points[0];
    const next = points[1] ?? [x - 1, y];
    const length = Math.hypot(x - next[0], y - next[1]) || 1;
    let along = [(x - next[0]) / length, (y - next[1]) / length];
    if (length < 0.05 && player.cells.length > 1) {
      const [head, neck] = player.cells;
      along = [head[0] - neck[0], head[1] - neck[1]];
    }
    const wide = this.atWall?.has(player.id);
    for (const side of [-1, 1]) {
      const eye = [
        x + along[0] * 0.1 - along[1] * 0.19 * side, y + along[1] * 0.1 + along[0] * 0.19 * side,
      ];
      brush.fillStyle = "#ffffff";
      brush.beginPath();
      brush.arc(...eye, wide ? 0.18 : 0.14, 0, 2 * Math.PI);
      brush.fill();
      brush.fillStyle = "#10181f";
      brush.beginPath();
      brush.arc(eye[0] + along[0] * 0.05, eye[1] + along[1] * 0.05, 0.075, 0, 2 * Math.PI);
      brush.fill();
    }
    if (!player.bot && player.id !== this.you) {
      brush.fillStyle = theme.soft;
      brush.font = "0.8px ui-sans-serif, system-ui, sans-serif";
      brush.textAlign = "center";
      brush.fillText(player.name, x, y < 1.5 ? y + 1.5 : y - 0.8);
    }
  }

  drawSparks(now) {
    const { brush } = this;
    this.sparks = this.sparks.filter((spark) => now - spark.at < 600);
    for (const spark of this.sparks) {
      const age = (now - spark.at) / 600;
      brush.globalAlpha = 1 - age;
      brush.fillStyle = spark.colour;
      brush.beginPath();
      const far = 1.6 * age;
      brush.arc(spark.x + Math.cos(spark.angle) * far, spark.y + Math.sin(spark.angle) * far,
        0.3 * (1 - age), 0, 2 * Math.PI);
      brush.fill();
    }
    brush.globalAlpha = 1;
  }
}
