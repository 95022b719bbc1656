// Numbers, sizes and times as people read them. Pure.
//
// `null` and `undefined` are unknown and read as a dash, never as zero.

const NONE = "–";

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** A rate or a count: `0`, `8.2`, `124`, `1.2k`. */
export function rate(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  if (value < 9.95) return value.toFixed(1);
  if (value < 999.5) return value.toFixed(0);
  if (value < 99_950) return `${(value / 1000).toFixed(1)}k`;
  return value < 999_500 ? `${(value / 1000).toFixed(0)}k` : `${(value / 1e6).toFixed(1)}M`;
}

/** A share of 1 as per cent. Rounds down: only 1 is 100 %. */
export function percent(share) {
  if (!known(share)) return NONE;
  if (share >= 1) return "100 %";
  if (share <= 0) return "0 %";
  const floored = Math.floor(share * 1000) / 10;
  return `${floored.toFixed(1)} %`;
}

/** Milliseconds: `0.21 ms`, `3.1 ms`, `57 ms`, `1.2 s`. */
export function millis(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 0.995) return `${value.toFixed(2)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${value.toFixed(0)} ms`;
  return `${(value / 1000).toFixed(1)} s`;
}

/** CPU cores: `0.11`. */
export function cores(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0";
  return value < 9.995 ? value.toFixed(2) : value.toFixed(1);
}

/** Bytes in powers of 1024: `64 MiB`. */
export function bytes(value) {
  if (!known(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit > 0 && value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Unix nanoseconds as milliseconds, as `Date` has them. */
export const toMillis = (nanos) => Math.floor(nanos / 1e6);

/** Seconds as `31 s`, `4 min`, `3 h 9 min`, `2 d 4 h`. */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const two = (big, bigUnit, small, unit) => `${big} ${bigUnit}${small ? ` ${small} ${unit}` : ""}`;
  if (s < 86_400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86_400), "d", Math.floor((s % 86_400) / 3600), "h");
}

/** How long ago a moment was. */
export const ago = (nanos) => known(nanos) ? duration((Date.now() - toMillis(nanos)) / 1000) : NONE;

const two = (number) => String(number).padStart(2, "0");

/** The time of day: `14:03:07`, with `.250` when `fine`. */
export function time(nanos, fine = false) {
  const at = new Date(toMillis(nanos));
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return fine ? `${clock}.${String(at.getMilliseconds()).padStart(3, "0")}` : clock;
}

/** The day: `2026-11-22`. */
export function day(nanos) {
  const at = new Date(toMillis(nanos));
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** Day and time, as a reader needs them in full. */
export const moment = (nanos) => `${day(nanos)} ${time(nanos)}`;

/** A word for `count` things. */
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** Quotes an argument for a shell, when it needs it. */
export const quote = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
