// A viewer outside of a browser, where `WebSocket` is that of the package `ws`, for example.
import { connect, type Show, type SocketLike } from "@showcart/sdk";

type SocketClass = new (url: string, protocols: string[]) => SocketLike;

export function watch(server: string, showId: string, WebSocket: SocketClass): Show {
  return connect({ server, showId, environment: { socket: (url, protocols) => new WebSocket(url, protocols) } });
}
