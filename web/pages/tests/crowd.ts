import WebSocket from "ws";
import type { Server } from "../../testing/server.js";

/** Viewers without a page: open sockets, as many as one likes. */
export class Crowd {
  readonly #address: string;
  readonly #token: string;
  readonly #sockets: WebSocket[] = [];

  private constructor(address: string, token: string) {
    this.#address = address;
    this.#token = token;
  }

  /** All of them have one name at the shop; each of their sockets counts. */
  static async of(server: Server, showId: string): Promise<Crowd> {
    return new Crowd(`${server.url.replace("http", "ws")}/v1/shows/${showId}/live`, await server.token("viewer", "crowd"));
  }

  async come(viewers: number): Promise<void> {
    await Promise.all(
      Array.from({ length: viewers }, async () => {
        const socket = new WebSocket(this.#address, ["showcart.v1", `token.${this.#token}`]);
        this.#sockets.push(socket);
        await new Promise<void>((resolve, reject) => {
          socket.once("open", resolve);
          socket.once("error", reject);
        });
        // What comes is read and let go, so that nobody is slow; an error later is the server's end.
        socket.on("message", () => {});
        socket.on("error", () => {});
      }),
    );
  }

  async leave(viewers: number = this.#sockets.length): Promise<void> {
    await Promise.all(
      this.#sockets.splice(0, viewers).map(async (socket) => {
        const closed = new Promise((resolve) => socket.once("close", resolve));
        socket.close();
        await closed;
      }),
    );
  }
}
