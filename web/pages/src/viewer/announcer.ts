/** Seconds before the end at which a countdown is said aloud. */
const THRESHOLDS = [60, 30, 10, 0];
/** What comes within this time is said together: a screen reader drops what is replaced too soon. */
const GATHER_MS = 300;

/** The page's one voice: a polite live region, and the thresholds of countdowns. */
export class Announcer {
  readonly #speak: (text: string) => void;
  #gathered: string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The seconds of each countdown when it was last looked at. */
  readonly #seconds = new Map<string, number>();

  constructor(speak: (text: string) => void) {
    this.#speak = speak;
  }

  say(text: string): void {
    this.#gathered.push(text);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#speak(this.#gathered.join(" "));
      this.#gathered = [];
    }, GATHER_MS);
  }

  /** Looks at the countdowns that are on screen: each is said once per threshold that it passes, and not when it comes. */
  look(
    countdowns: readonly {
      readonly key: string;
      readonly seconds: number;
      readonly words: (seconds: number) => string;
    }[],
  ): void {
    const seen = new Set<string>();
    for (const { key, seconds, words } of countdowns) {
      seen.add(key);
      const before = this.#seconds.get(key);
      this.#seconds.set(key, seconds);
      if (before === undefined) continue;
      // Of several that were passed at once, as after a sleep, the last one counts.
      const passed = THRESHOLDS.filter((it) => before > it && seconds <= it).at(-1);
      if (passed !== undefined) this.say(words(passed));
    }
    for (const key of this.#seconds.keys()) if (!seen.has(key)) this.#seconds.delete(key);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#gathered = [];
  }
}
