import type { ShowId } from "@showcart/sdk";
import { read as readKept, write } from "../design/kept.js";

/** Who sits at the desk of which show. It stays in this tab: a token is worth a shop's money. */
export interface Session {
  readonly server: string;
  readonly token: string;
  readonly show: ShowId | null;
}

const KEY = "showcart:desk";

/** What the address brings behind the `#`, else what the tab has kept. The token is taken out of the address. */
export function arrive(): Session | null {
  const asked = new URLSearchParams(location.hash.slice(1));
  const kept = read();
  const token = asked.get("token") ?? kept?.token ?? null;
  const server = asked.get("server") ?? kept?.server ?? location.origin;
  const show = (asked.get("show") as ShowId | null) ?? kept?.show ?? null;
  if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
  if (token === null) return null;
  const session = { server, token: token.trim(), show };
  keep(session);
  return session;
}

/** The server that a new session is for. */
export const serverOf = (): string =>
  read()?.server ?? new URLSearchParams(location.hash.slice(1)).get("server") ?? location.origin;

function read(): Session | null {
  try {
    const kept: unknown = JSON.parse(readKept("sessionStorage", KEY) ?? "null");
    return typeof kept === "object" && kept !== null && "token" in kept && "server" in kept ? (kept as Session) : null;
  } catch {
    return null;
  }
}

export function keep(session: Session): void {
  write("sessionStorage", KEY, JSON.stringify(session));
}

export function forget(): void {
  write("sessionStorage", KEY, null);
}
