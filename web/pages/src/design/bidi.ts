/** Embeddings, overrides and isolates: they turn the order of letters, also of the words behind the text that they stand in. */
const TURNING = /[\u202A-\u202E\u2066-\u2069]/g;
/** Letters of scripts that are written from the right. */
const FROM_THE_RIGHT = /[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]/u;

/** Somebody else's text without what turns letters. It reads in its own direction where its element has `dir="auto"`. */
export const untwisted = (text: string): string => text.replace(TURNING, "");

/** The same to stand among other words: whatever direction it has, theirs stays. */
export function isolated(text: string): string {
  const plain = untwisted(text);
  return FROM_THE_RIGHT.test(plain) ? `\u2068${plain}\u2069` : plain;
}
