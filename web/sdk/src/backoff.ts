/** Why there is no connection, or the last one ended. */
export type DisconnectReason =
  /** The connection broke, or none came about. */
  | "network"
  /** Nothing was heard for longer than the server promised. */
  | "silent"
  /** Something was missing in what was heard. */
  | "gap"
  /** The server stops; another one takes over. */
  | "restarting"
  /** The server cannot read the show now. */
  | "unavailable"
  /** This client read too slowly. */
  | "too_slow"
  /** This client said too much. */
  | "too_many_messages"
  /** The server did not understand this client. */
  | "misunderstood"
  /** The token function failed. */
  | "no_token"
  | "bad_token"
  | "token_expired"
  /** The token is not for this show. */
  | "forbidden"
  | "no_such_show"
  /** The browser opens no such socket: the server's address is none, or a page that came over https names one of http. */
  | "unusable_address"
  /** `close()` was called. */
  | "by_caller";

/** What to do after a connection ended. */
export type NextStep =
  /** Wait a random time up to this many milliseconds. */
  | { readonly do: "wait"; readonly upToMs: number; readonly atLeastMs: number }
  /** The token is used up: try another one. */
  | { readonly do: "renew" }
  | { readonly do: "stop" };

/** Nobody waits longer for the next try than this. */
export const WAIT_MAX_MS = 30_000;
/** While an outage is short, nobody waits longer than this: the page is back within about 5 s of the server. */
const SHORT_WAIT_MAX_MS = 4_000;
/** In a longer one, nobody waits for more than this part of what it has lasted already. */
const PATIENT_SHARE = 1 / 15;
/** "Some seconds", when the server asks for a pause. */
const PAUSE_MS = 4_000;

/** The reason for a close code; what a browser makes of a lost connection is 1006. */
export function reasonOf(code: number): DisconnectReason {
  switch (code) {
    case 1002:
    case 1003:
    case 1007:
    case 1009:
      return "misunderstood";
    case 1012:
      return "restarting";
    case 4001:
      return "bad_token";
    case 4002:
      return "token_expired";
    case 4003:
      return "forbidden";
    case 4004:
      return "no_such_show";
    case 4103:
      return "unavailable";
    case 4108:
      return "too_slow";
    case 4110:
      return "too_many_messages";
    default:
      // Codes of the time to come: 40xx is "do not retry", 41xx "back off", anything else "come back".
      if (code >= 4000 && code < 4100) return "forbidden";
      return code >= 4100 && code < 4200 ? "unavailable" : "network";
  }
}

/**
 * The longest wait in an outage that has lasted so long: 4 s in the first minute, then a fifteenth of it, up to 30 s.
 * Whoever missed little of a show misses little more, and a server that is away for long is asked rarely.
 *
 * It bounds a random wait, whose mean is half of it. Of a crowd of n, in the first minute n/2 knock each second, and when
 * the server is there again all of them come within 4 s, each at a moment of their own: that is gentler than after a
 * restart which nobody noticed, when they come within the 1 s that the hello names.
 */
function longestWait(outageMs: number): number {
  return Math.min(Math.max(outageMs * PATIENT_SHARE, SHORT_WAIT_MAX_MS), WAIT_MAX_MS);
}

/**
 * What follows. `failures` counts the connections that failed in a row, this one included, and `outageMs` is how long
 * there has been no good one; `reconnectMs` is what the server asked for in its last hello.
 */
export function nextStep(
  reason: DisconnectReason,
  failures: number,
  reconnectMs: number,
  outageMs: number,
): NextStep {
  const growth = 2 ** Math.min(failures - 1, 16);
  switch (reason) {
    case "forbidden":
    case "no_such_show":
    case "unusable_address":
    case "by_caller":
      return { do: "stop" };
    case "bad_token":
    case "token_expired":
      return { do: "renew" };
    case "unavailable": {
      const upToMs = Math.min(PAUSE_MS * growth, longestWait(outageMs));
      return { do: "wait", upToMs, atLeastMs: upToMs / 2 };
    }
    case "too_slow":
    case "too_many_messages":
    case "misunderstood": {
      // It is this client's doing, and not over because the server is there.
      const upToMs = Math.min(PAUSE_MS * growth, WAIT_MAX_MS);
      return { do: "wait", upToMs, atLeastMs: upToMs / 2 };
    }
    default: {
      // Full jitter: a crowd that lost its node does not come back in one moment. Where the server wants it spread over
      // more time, it is.
      const longestMs = Math.max(longestWait(outageMs), Math.min(reconnectMs, WAIT_MAX_MS));
      return { do: "wait", upToMs: Math.min(reconnectMs * growth, longestMs), atLeastMs: 0 };
    }
  }
}

/** Whether a wait is for the server or the network alone: then a sign that somebody looks, or that there is a network, ends it. */
export function mayCutShort(reason: DisconnectReason): boolean {
  return ["network", "silent", "gap", "restarting", "unavailable", "no_token"].includes(reason);
}
