/** Somebody who watches a show, in a world that tests hold in their hands. */

import { settle, World } from "./fake.js";
import * as say from "./scenes.js";
import { connect, type ConnectionState, type Entry, type ShowOptions } from "./sdk.js";

/** Begins to watch, and writes down what the page would hear. */
export async function watch(options: Partial<ShowOptions> = {}, world = new World()) {
  const show = connect({
    server: "https://live.shop.example",
    showId: say.SHOW,
    environment: world.environment,
    ...options,
  });
  const entries: Entry[] = [];
  const states: ConnectionState[] = [];
  show.onEntry((entry) => entries.push(entry));
  show.connection.subscribe((state) => states.push(state));
  await settle();
  return {
    world,
    show,
    entries,
    seqs: () => entries.map((it) => it.seq),
    statuses: () =>
      states.map((it) => ("reason" in it && it.reason !== null ? `${it.status} ${it.reason}` : it.status)),
  };
}

/** Begins to watch, and has the snapshot at `seq`. */
export async function joined(seq = 10, options: Partial<ShowOptions> = {}) {
  const watched = await watch(options);
  watched.world.socket.hear(say.hello());
  watched.world.socket.hear(say.snapshot(seq));
  return watched;
}
