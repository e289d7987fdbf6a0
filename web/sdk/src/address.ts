import { SUBPROTOCOL } from "./protocol.js";

/** The address of a show's socket; `server` may end in a slash. */
export function liveAddress(server: string, showId: string): string {
  return `${server.replace(/\/+$/, "").replace(/^http/, "ws")}/v1/shows/${showId}/live`;
}

/** What a socket offers: a token in the address would end up in logs. */
export function protocolsFor(token: string | null): string[] {
  return token === null ? [SUBPROTOCOL] : [SUBPROTOCOL, `token.${token}`];
}
