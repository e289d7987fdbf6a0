import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server as NetServer, type Socket } from "node:net";

export interface LineOptions {
  /** From a request to the first byte of its answer, when the server takes no time. */
  readonly roundTripMs: number;
  /** For all connections together, in each direction. */
  readonly bytesPerSecond: number;
}

/**
 * A line like that of a phone between pages and a server: each way takes half of the round trip, a new connection costs one
 * more for its handshake, and all share one bandwidth.
 */
export class SlowLine {
  readonly #listener: NetServer;
  readonly #sockets = new Set<Socket>();
  /** Bytes towards the browser, and how many connections there were. */
  received = 0;
  connections = 0;

  private constructor(upstream: number, { roundTripMs, bytesPerSecond }: LineOptions) {
    const up = new Lane(bytesPerSecond, roundTripMs / 2);
    const down = new Lane(bytesPerSecond, roundTripMs / 2);
    // Nothing is read before a handshake could have come back.
    this.#listener = createServer({ pauseOnConnect: true }, (client) => {
      this.connections += 1;
      const server = connect(upstream, "127.0.0.1");
      for (const [socket, other] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#sockets.add(socket);
        socket.setNoDelay(true);
        socket.on("error", () => other.destroy());
        socket.on("close", () => this.#sockets.delete(socket));
      }
      carry(client, server, up, () => {});
      carry(server, client, down, (bytes) => (this.received += bytes));
      setTimeout(() => client.resume(), roundTripMs);
    });
  }

  /** `upstream` is the server's address. */
  static async open(upstream: string, options: LineOptions): Promise<SlowLine> {
    const line = new SlowLine(Number(new URL(upstream).port), options);
    line.#listener.listen(0, "127.0.0.1");
    await once(line.#listener, "listening");
    return line;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#listener.close();
  }
}

/** One direction: bytes leave one after the other, and are on their way for a while. */
class Lane {
  readonly #bytesPerMs: number;
  readonly #wayMs: number;
  #freeAt = 0;

  constructor(bytesPerSecond: number, wayMs: number) {
    this.#bytesPerMs = bytesPerSecond / 1_000;
    this.#wayMs = wayMs;
  }

  /** Puts so many bytes on the line: when the last of them leaves, and when it arrives. */
  take(bytes: number): { readonly left: number; readonly arrives: number } {
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + bytes / this.#bytesPerMs;
    return { left: this.#freeAt, arrives: this.#freeAt + this.#wayMs };
  }
}

/** What a packet carries. The line takes one of each connection in turn, so none has it for itself. */
const PIECE = 1_400;

async function until(moment: number): Promise<void> {
  const ms = moment - performance.now();
  if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
}

function carry(from: Socket, to: Socket, lane: Lane, count: (bytes: number) => void): void {
  // Each waits for the one before it, because timers keep no order among themselves.
  let entered: Promise<void> = Promise.resolve();
  let arrived: Promise<void> = Promise.resolve();
  const send = (bytes: number, run: () => void) => {
    entered = entered.then(async () => {
      const { left, arrives } = lane.take(bytes);
      arrived = arrived.then(async () => {
        await until(arrives);
        if (to.writable) run();
      });
      await until(left);
    });
  };
  from.on("data", (bytes) => {
    count(bytes.length);
    for (let start = 0; start < bytes.length; start += PIECE) {
      const piece = bytes.subarray(start, start + PIECE);
      send(piece.length, () => void to.write(piece));
    }
  });
  from.on("end", () => send(0, () => void to.end()));
}
