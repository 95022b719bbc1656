// The WebSocket to the arena: connects, comes back after a loss, and tells how long the way is.
// Not here: what the messages mean.

const RETRY_FIRST_MS = 150;
const RETRY_LAST_MS = 4000;
const PING_MS = 2000;

export class Link {
  /** `on` has open(), message(object), lost(), latency(ms). */
  constructor(on) {
    this.on = on;
    this.wait = RETRY_FIRST_MS;
    this.connect();
    setInterval(() => this.ping(), PING_MS);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/arena`);
    this.socket = socket;
    socket.onopen = () => {
      this.on.open();
      this.ping();
    };
    socket.onmessage = (event) => {
      this.wait = RETRY_FIRST_MS;
      const message = JSON.parse(event.data);
      if (message.t === "pong") {
        this.on.latency(Math.max(0, Math.round(performance.now() - message.at)));
      } else {
        this.on.message(message);
      }
    };
    socket.onclose = () => {
      this.on.lost();
      // Scattered, so that a room's players do not all come back in the same instant.
      setTimeout(() => this.connect(), this.wait * (0.5 + Math.random()));
      this.wait = Math.min(this.wait * 2, RETRY_LAST_MS);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  ping() {
    if (!document.hidden) this.send({ t: "ping", at: Math.round(performance.now()) });
  }
}
