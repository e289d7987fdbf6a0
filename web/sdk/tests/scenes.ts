/** Messages as a server would say them. */

import type { Scene } from "./sdk.js";

export const SHOW = "shw_0198f2a4c6d87a3eb1f05a6c7d8e9f00";
export const POLL = "pol_0198f2a4c6d87a3eb1f05a6c7d8e9f21";
export const SALE = "sal_0198f2a4c6d87a3eb1f05a6c7d8e9f31";
export const HOLD = "hld_0198f2a4c6d87a3eb1f05a6c7d8e9f41";
export const ORDER = "ord_0198f2a4c6d87a3eb1f05a6c7d8e9f51";
export const EPOCH = "8d6be6f3a0e74a00";
/** The moment at which the fake clock begins. */
export const T0 = 1_795_307_580_000;

export const emptyScene: Scene = {
  show: { title: "Autumn lamps", state: "live", started_at: T0, ended_at: null },
  lineup: {},
  pin: null,
  sales: {},
  banners: {},
  timers: {},
  polls: {},
};

export const hello = (more: object = {}) => ({
  type: "hello",
  t: T0,
  epoch: EPOCH,
  resumed: false,
  heartbeat_ms: 25_000,
  reconnect_ms: 1_000,
  role: "viewer",
  ...more,
});

export const snapshot = (seq: number, more: object = {}) => ({
  type: "snapshot",
  t: T0,
  epoch: EPOCH,
  seq,
  scene: emptyScene,
  gauges: {},
  ...more,
});

export const frame = (after: number, upto: number, entries?: readonly object[], gauges?: object, t = T0) => ({
  type: "frame",
  t,
  after,
  upto,
  ...(entries && { entries }),
  ...(gauges && { gauges }),
});

/** A timer: as good as any entry, and its id says which one it was. */
export const timer = (seq: number, at = T0) => ({
  seq,
  at,
  type: "timer.started",
  data: { overlay_id: `ovl_${seq}`, version: 1, label: `timer ${seq}`, started_at: at, ends_at: at + 60_000 },
});

export const pin = (seq: number, at = T0) => ({
  seq,
  at,
  type: "pin.set",
  data: { version: seq, product: { product_id: "prd_1", title: "The lamp" }, pinned_at: at, animate_until: at + 3_000 },
});

export const sale = (seq: number, at = T0) => ({
  seq,
  at,
  type: "sale.started",
  data: {
    sale_id: SALE,
    product: { product_id: "prd_1" },
    price_minor: 1_900,
    currency: "EUR",
    cap: 5,
    limit_per_buyer: 1,
    starts_at: at,
    ends_at: null,
  },
});

export const mine = (seq: number, more: object = {}) => ({
  type: "mine",
  t: T0,
  seq,
  holds: [],
  orders: [],
  votes: {},
  ...more,
});
