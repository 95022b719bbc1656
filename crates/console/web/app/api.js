// Requests to the API that are not live.

/** What the engine refused, in its own words. */
export class Problem extends Error {
  constructor({ code, message, cause, next }) {
    super(message);
    Object.assign(this, { code, reason: cause, next });
  }
}

/** The JSON at `path`. */
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) query.append(name, one);
  }
  return answer(fetch(`${path}?${query}`, { signal }));
}

/** Has the engine do something. */
export async function command(name, fields) {
  return answer(fetch("/api/commands", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ command: name, ...fields }),
  }));
}

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", message: "the engine does not answer",
      next: "see whether it runs: ms ps" });
  }
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => null);
  throw new Problem(problem ?? { code: "internal", message: `status ${response.status}` });
}
