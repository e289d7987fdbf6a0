import type { Entry, Sale, SaleId, Scene } from "./protocol.js";

/**
 * What the scene becomes when `entry` happens. Parts that it does not touch stay the same objects; entries for the
 * desk, for one buyer, or of a type that is newer than this SDK give back the same scene.
 *
 * The server has the same function; `tests/vectors/fold.json` holds cases that both run.
 */
export function fold(scene: Scene, entry: Entry): Scene {
  switch (entry.type) {
    case "show.started":
      return { ...scene, show: { ...scene.show, state: "live", started_at: entry.data.started_at } };
    case "show.ended":
      // Nobody can take them off any more. Entries that say how each of them ended follow, and change nothing here.
      return {
        ...scene,
        show: { ...scene.show, state: "ended", ended_at: entry.data.ended_at },
        banners: {},
        timers: {},
        polls: {},
      };
    case "video.set":
      return { ...scene, show: { ...scene.show, video_url: entry.data.video_url } };
    case "lineup.set":
      return { ...scene, lineup: { ...scene.lineup, [entry.data.product.product_id]: entry.data } };
    case "pin.set":
      return { ...scene, pin: entry.data };
    case "pin.cleared":
      return { ...scene, pin: null };
    case "banner.shown":
      return { ...scene, banners: { ...scene.banners, [entry.data.overlay_id]: entry.data } };
    case "banner.hidden":
      return { ...scene, banners: without(scene.banners, entry.data.overlay_id) };
    case "timer.started":
    case "timer.changed":
      return { ...scene, timers: { ...scene.timers, [entry.data.overlay_id]: entry.data } };
    case "timer.stopped":
      return { ...scene, timers: without(scene.timers, entry.data.overlay_id) };
    case "poll.opened":
      return { ...scene, polls: { ...scene.polls, [entry.data.poll_id]: entry.data } };
    case "poll.closed":
      return { ...scene, polls: without(scene.polls, entry.data.poll_id) };
    case "sale.armed":
      return withSale(scene, { ...entry.data, state: "armed", sold_out: false });
    case "sale.started":
      return withSale(scene, { ...entry.data, state: "running", sold_out: false });
    case "sale.changed":
      return changeSale(scene, entry.data.sale_id, { cap: entry.data.cap });
    case "sale.ended":
      return { ...scene, sales: without(scene.sales, entry.data.sale_id) };
    case "sale.sold_out":
      return changeSale(scene, entry.data.sale_id, { sold_out: true });
    case "sale.restocked":
      return changeSale(scene, entry.data.sale_id, { sold_out: false });
    default:
      return scene;
  }
}

/** The same object when there is nothing to take out, so that nobody is told of a change. */
function without<K extends string, V>(all: Readonly<Record<K, V>>, key: K): Readonly<Record<K, V>> {
  if (!(key in all)) return all;
  const { [key]: _, ...rest } = all;
  return rest as Readonly<Record<K, V>>;
}

function withSale(scene: Scene, sale: Sale): Scene {
  return { ...scene, sales: { ...scene.sales, [sale.sale_id]: sale } };
}

/** A sale that is not on screen, or not any more, stays away. */
function changeSale(scene: Scene, saleId: SaleId, change: Partial<Sale>): Scene {
  const sale = scene.sales[saleId];
  return sale === undefined ? scene : withSale(scene, { ...sale, ...change });
}
