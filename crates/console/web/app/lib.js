// What every module draws with: preact, htm and signals under one name.

import { Fragment, h, render } from "../vendor/preact.js";
import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import htm from "../vendor/htm.js";
import { batch, computed, effect, signal, untracked } from "../vendor/signals.js";

const html = htm.bind(h);

export {
  Fragment, batch, computed, effect, html, render, signal, untracked, useEffect, useLayoutEffect,
  useRef, useState,
};
