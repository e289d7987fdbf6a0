// A viewer outside of a browser; `WebSocket` is that of the package `ws`, for example.
import { connect, type Show, type ShowId, type SocketLike } from "@showcart/sdk";

type SocketClass = new (url: string, protocols: string[]) => SocketLike;

export function watch(server: string, showId: ShowId, WebSocket: SocketClass): Show {
  const kept = new Map<string, string>();
  return connect({
    server,
    showId,
    environment: {
      socket: (url, protocols) => new WebSocket(url, protocols),
      storage: {
        getItem: (key) => kept.get(key) ?? null,
        setItem: (key, value) => void kept.set(key, value),
        removeItem: (key) => void kept.delete(key),
      },
    },
  });
}
