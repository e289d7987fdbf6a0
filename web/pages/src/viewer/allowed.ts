/** Why a page may not speak with a server: the server does not want this page, or the page's own policy does not want the server. */
export type Refusal = "by_server" | "by_page";

/**
 * Whether a server that can be reached does not let our page speak with it. The browser hides the reason of a refusal, so two
 * questions find it: one whose answer may not be read, which shows that the server is there, and one whose answer may.
 */
export async function isRefusedHere(server: string): Promise<boolean> {
  const { origin } = new URL(server, location.href);
  if (origin === location.origin) return false;
  const address = `${server.replace(/\/+$/, "")}/healthz`;
  const isAnswered = (mode: RequestMode) =>
    fetch(address, { mode, cache: "no-store", credentials: "omit" }).then(
      () => true,
      () => false,
    );
  return (await isAnswered("no-cors")) && !(await isAnswered("cors"));
}

/** Tells when the page's own policy keeps us from a server, until it is called off. */
export function onForbidden(server: string, tell: () => void): () => void {
  const hear = ({ blockedURI, disposition, effectiveDirective }: SecurityPolicyViolationEvent) => {
    // A policy that only reports forbids nothing.
    if (disposition !== "enforce" || effectiveDirective !== "connect-src") return;
    // Of sockets and calls alike: the host is the same, the scheme is not.
    if (hostOf(blockedURI) !== null && hostOf(blockedURI) === hostOf(server)) tell();
  };
  document.addEventListener("securitypolicyviolation", hear);
  return () => document.removeEventListener("securitypolicyviolation", hear);
}

function hostOf(address: string): string | null {
  try {
    return new URL(address, location.href).host;
  } catch {
    return null;
  }
}
