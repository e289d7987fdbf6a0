import { SUBPROTOCOL } from "./protocol.js";

/** A server's address as the other ones begin: without a slash at its end. */
export const baseOf = (server: string): string => server.replace(/\/+$/, "");

/** The address of a show's socket. */
export function liveAddress(server: string, showId: string): string {
  return `${baseOf(server).replace(/^http/, "ws")}/v1/shows/${encodeURIComponent(showId)}/live`;
}

/** What a socket offers: a token in the address would end up in logs. */
export function protocolsFor(token: string | null): string[] {
  return token === null ? [SUBPROTOCOL] : [SUBPROTOCOL, `token.${token}`];
}

/** Whether a token can be offered as a subprotocol: browsers throw at spaces, line breaks and the like, which no token has. */
export const isSendable = (token: string): boolean => /^[!#$%&'*+.^_`|~\w-]+$/.test(token);
