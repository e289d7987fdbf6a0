import type { OverlayId, ShowId } from "@showcart/sdk";
import { read, write } from "../design/kept.js";

/** So many overlays are remembered of a show. */
const MAX = 100;

/**
 * What banners and timers said. The server's log of who did what names those that have left the stage by their ids alone, and
 * nobody can ask for them any more; so they are kept in the tab, where they outlive a reload.
 */
export class OverlayNames {
  readonly #key: string;
  readonly #names: Map<string, string>;

  constructor(show: ShowId) {
    this.#key = `showcart:overlays:${show}`;
    this.#names = new Map(kept(this.#key));
  }

  nameOf(id: string): string | undefined {
    return this.#names.get(id);
  }

  know(id: OverlayId, name: string): void {
    if (this.#names.get(id) === name) return;
    this.#names.set(id, name);
    write("sessionStorage", this.#key, JSON.stringify([...this.#names].slice(-MAX)));
  }
}

type Pair = readonly [id: string, name: string];

function kept(key: string): readonly Pair[] {
  try {
    const all: unknown = JSON.parse(read("sessionStorage", key) ?? "[]");
    return Array.isArray(all) ? all.filter(isPair) : [];
  } catch {
    return [];
  }
}

const isPair = (it: unknown): it is Pair => Array.isArray(it) && typeof it[0] === "string" && typeof it[1] === "string";
