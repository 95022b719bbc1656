// prices: what the items cost, with shipping, in the customer's currency.

import { createServer } from "node:http";
import { hostname } from "node:os";

const PORT = Number(process.env.PORT || 3000);
const SHIPPING_URL = process.env.SHIPPING_URL ?? "http://shipping:8080";
const CENTS_PER_ITEM = 1250;

async function price(query) {
  const items = Number(query.get("items") ?? 1);
  if (!Number.isInteger(items) || items < 1 || items > 1000) {
    return { status: 400, value: { error: "items must be 1 to 1000" } };
  }
  const ask = new URLSearchParams({
    kilograms: String(items * 0.4),
    city: query.get("city") ?? "Oslo",
    currency: query.get("currency") ?? "EUR",
  });
  const answer = await fetch(`${SHIPPING_URL}/shipping?${ask}`, {
    signal: AbortSignal.timeout(4000),
  });
  const shipping = await answer.json();
  if (!answer.ok) {
    const status = answer.status === 400 ? 400 : 502;
    return { status, value: { error: `shipping: ${shipping.error}` } };
  }
  const goods = Math.round(items * CENTS_PER_ITEM * shipping.rate);
  const me = { service: "prices", runtime: `node ${process.versions.node}`, host: hostname() };
  return {
    status: 200,
    value: {
      currency: shipping.currency,
      goods_cents: goods,
      shipping_cents: shipping.cents,
      total_cents: goods + shipping.cents,
      trace: [me, ...shipping.trace],
    },
  };
}

async function answer(request) {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/healthz") return { status: 200, value: { ok: true } };
  if (url.pathname !== "/price") return { status: 404, value: { error: "try /price?items=3" } };
  try {
    return await price(url.searchParams);
  } catch (error) {
    const why = error.cause?.message ?? error.message;
    return { status: 502, value: { error: `shipping: ${why}` } };
  }
}

const server = createServer(async (request, response) => {
  const { status, value } = await answer(request);
  const body = JSON.stringify(value) + "\n";
  response.writeHead(status, {
    "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body),
  });
  response.end(body);
  if (request.url !== "/healthz") console.log(request.method, request.url, status);
});

server.listen(PORT, "0.0.0.0", () => console.log(`prices listens on ${PORT}`));
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
