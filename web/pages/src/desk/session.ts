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
  // A token that comes without the name of a server is for the one that the page is from.
  const server = asked.get("server") ?? (asked.has("token") ? null : serverKept()) ?? location.origin;
  const show = (asked.get("show") as ShowId | null) ?? kept?.show ?? null;
  if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
  if (token === null) {
    if (asked.has("server")) write("sessionStorage", KEY, JSON.stringify({ server }));
    return null;
  }
  const session = { server, token: token.trim(), show };
  keep(session);
  return session;
}

/** The server that a new session is for. */
export const serverOf = (): string => serverKept() ?? location.origin;

function stored(): Partial<Session> {
  try {
    const kept: unknown = JSON.parse(readKept("sessionStorage", KEY) ?? "null");
    return typeof kept === "object" && kept !== null ? kept : {};
  } catch {
    return {};
  }
}

const serverKept = (): string | null => stored().server ?? null;

function read(): Session | null {
  const { server, token, show = null } = stored();
  return server === undefined || token === undefined ? null : { server, token, show };
}

export function keep(session: Session): void {
  write("sessionStorage", KEY, JSON.stringify(session));
}

/** All but the server, which is none of a token's secrets: whoever signs in again, also after a reload, means the same one. */
export function forget(): void {
  const { server } = stored();
  write("sessionStorage", KEY, server === undefined ? null : JSON.stringify({ server }));
}
