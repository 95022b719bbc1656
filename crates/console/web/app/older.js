// Older lines of a log, page by page: what is asked for, and whether there is more. No document.
//
// A page goes on where the lines that are shown begin: not after the moment of the first one, less
// those of that moment that are shown. Many lines may share a moment, for what a program writes at
// once is read at once, and nanoseconds since 1970 are more than a number keeps here: it has some
// hundred of them in common.

/** Lines of one page. */
export const PAGE_LINES = 1_000;
/** Lines that are shown at one time, at most. */
export const ROWS_MAX = 10_000;

/** The last moment that reads as the number `at`, in digits. */
export function latest(at) {
  let last = BigInt(at);
  for (let step = 1_024n; step > 0n; step /= 2n) while (Number(last + step) === at) last += step;
  return last.toString();
}

/** What asks for the lines before those shown, of which `ats` are the moments, oldest first. */
export function before(ats, until) {
  const [first] = ats;
  const skip = ats.findIndex((at) => at !== first);
  const last = latest(first);
  const sooner = until && BigInt(until) < BigInt(last) ? until : last;
  return { until: sooner, skip: skip < 0 ? ats.length : skip, limit: PAGE_LINES };
}

/**
 * Where a person is in the lines of one filter. `ask` gets parameters and a signal, and answers a
 * page; `told` gets a state each time that it changes: `none` (nothing older is known of), `more`,
 * `loading`, `full` (as many are shown as may be) or `oldest` (all of them are).
 */
export class Older {
  constructor(ask, told) {
    this.ask = ask;
    this.told = told;
    this.state = "none";
    this.filter = {};
    this.abort = null;
  }

  /** Begins with another filter: what is under way is of no use any more. */
  begin(filter) {
    this.end();
    this.filter = filter;
    this.turn("none");
  }

  /** Lets go of what is under way. */
  end() {
    this.abort?.abort();
    this.abort = null;
  }

  /** There are older lines than those shown: they were cut off, or taken away. */
  more() {
    if (this.state !== "loading") this.turn("more");
  }

  /** The page before what is shown now; nothing when there is none, or one is under way. */
  async page(ats) {
    if (this.state !== "more" || ats.length === 0) return [];
    if (ats.length + PAGE_LINES > ROWS_MAX) {
      this.turn("full");
      return [];
    }
    const abort = new AbortController();
    this.abort = abort;
    this.turn("loading");
    try {
      const page = await this.ask({ ...this.filter, ...before(ats, this.filter.until) }, abort.signal);
      if (abort.signal.aborted) return [];
      this.turn(page.more && page.lines.length > 0 ? "more" : "oldest");
      return page.lines;
    } catch (error) {
      if (abort.signal.aborted) return [];
      // It may be asked for again.
      this.turn("more");
      throw error;
    } finally {
      if (this.abort === abort) this.abort = null;
    }
  }

  turn(state) {
    if (state === this.state) return;
    this.state = state;
    this.told(state);
  }
}
