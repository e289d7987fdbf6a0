/** What a browser keeps for us; one that keeps nothing forgets it with the page. */
export function read(storage: "localStorage" | "sessionStorage", key: string): string | null {
  try {
    return globalThis[storage].getItem(key);
  } catch {
    return null;
  }
}

/** Null takes it away. */
export function write(storage: "localStorage" | "sessionStorage", key: string, value: string | null): void {
  try {
    if (value === null) globalThis[storage].removeItem(key);
    else globalThis[storage].setItem(key, value);
  } catch {
    // See above.
  }
}

/** Where the choice of light and dark is kept, for all pages. */
export const THEME = "showcart:theme";
