import type { LocalClock } from "./environment.js";
import { ShowcartError } from "./errors.js";
import { pause } from "./waiting.js";

/** Browsers tell of a refusal a moment after the call has failed. */
const TOLD_MS = 100;

/**
 * Makes a call to `url`. A page's own Content-Security-Policy may not name that address: then the call fails as it does
 * without a network, and only an event of the document says why. Trying again would not help.
 *
 * @throws ShowcartError with the code `forbidden_by_page` when the policy refused the call.
 */
export async function underPolicy<T>(clock: LocalClock, url: string, call: () => Promise<T>): Promise<T> {
  // Not every place has a document, or a policy: Node, workers.
  if (typeof document === "undefined") return call();
  const { origin } = new URL(url, location.href);
  let isRefused = false;
  const hear = ({ blockedURI, disposition }: SecurityPolicyViolationEvent) => {
    // A policy that only reports refuses nothing.
    if (disposition === "enforce" && `${blockedURI}/`.startsWith(`${origin}/`)) isRefused = true;
  };
  document.addEventListener("securitypolicyviolation", hear);
  try {
    return await call();
  } catch (cause) {
    if (!isRefused) await pause(clock, TOLD_MS);
    if (!isRefused) throw cause;
    const what = `This page may not reach ${origin}: its Content-Security-Policy must name that address in connect-src.`;
    throw new ShowcartError("forbidden_by_page", what, { cause });
  } finally {
    document.removeEventListener("securitypolicyviolation", hear);
  }
}
