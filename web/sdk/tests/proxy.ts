/** What lies between a phone and a server, at its worst: cuts, delays, stalls and doubles, from a seed. */

import { once } from "node:events";
import { createServer, connect, type AddressInfo, type Server as NetServer, type Socket } from "node:net";
import type { Random } from "./random.js";

/** How often each of these happens, from 0 to 1. */
export interface Weather {
  /** A frame of a WebSocket is delivered twice. */
  readonly double: number;
  /** Bytes come up to `delayMs` late; what follows waits behind them. */
  readonly delay: number;
  readonly delayMs: number;
  /** Half of a frame, or of an answer, and then nothing: the connection is cut. */
  readonly cut: number;
  /**
   * Nothing more comes, and nobody says so: behind the hello, because a line without one is given up only after 15 s.
   */
  readonly stall: number;
  /** A request arrives, and its answer is lost with the connection. */
  readonly lose: number;
}

export const CALM: Weather = { double: 0, delay: 0, delayMs: 0, cut: 0, stall: 0, lose: 0 };

export interface Counts {
  doubled: number;
  delayed: number;
  cut: number;
  stalled: number;
  lost: number;
  connections: number;
}

export class Proxy {
  weather: Weather = CALM;
  readonly counts: Counts = { doubled: 0, delayed: 0, cut: 0, stalled: 0, lost: 0, connections: 0 };
  readonly #random: Random;
  readonly #upstream: () => number;
  readonly #listener: NetServer;
  readonly #sockets = new Set<Socket>();

  private constructor(random: Random, upstream: () => number) {
    this.#random = random;
    this.#upstream = upstream;
    this.#listener = createServer((client) => this.#serve(client));
  }

  /** `upstream` is the server's port, which may become another one. */
  static async open(random: Random, upstream: () => number): Promise<Proxy> {
    const proxy = new Proxy(random, upstream);
    proxy.#listener.listen(0, "127.0.0.1");
    await once(proxy.#listener, "listening");
    return proxy;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  /** Cuts all connections that are open. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cutAll();
    this.#listener.close();
  }

  #serve(client: Socket): void {
    this.counts.connections += 1;
    const server = connect(this.#upstream(), "127.0.0.1");
    const both = [client, server];
    const cut = () => both.forEach((it) => it.destroy());
    for (const socket of both) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", cut);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        // The last bytes of the other side may still be on their way.
        both.forEach((it) => it.end());
      });
    }
    let isSocket: boolean | null = null;
    client.on("data", (bytes) => {
      isSocket ??= /^GET \S*\/live[? ]/.test(bytes.toString("latin1"));
      server.write(bytes);
    });
    const pieces = new FrameReader();
    const road = new Road(client);
    server.on("data", (bytes) => {
      if (isSocket === true) for (const piece of pieces.read(bytes)) this.#carry(road, piece.bytes, piece.isText, cut);
      else if (this.#random() >= this.weather.lose) this.#carry(road, bytes, false, cut);
      else {
        this.counts.lost += 1;
        cut();
      }
    });
  }

  #carry(road: Road, bytes: Buffer, isText: boolean, cut: () => void): void {
    const { double, delay, delayMs, cut: cuts, stall } = this.weather;
    let dice = this.#random();
    const happens = (chance: number) => (dice -= chance) < 0;
    if (happens(cuts)) {
      this.counts.cut += 1;
      road.send(bytes.subarray(0, bytes.length / 2), 0);
      return road.then(cut);
    }
    if (happens(stall) && road.carried > 2) {
      this.counts.stalled += 1;
      return road.block();
    }
    let lateMs = 0;
    if (happens(delay)) {
      this.counts.delayed += 1;
      lateMs = this.#random() * delayMs;
    }
    road.send(bytes, lateMs);
    if (isText && this.#random() < double) {
      this.counts.doubled += 1;
      road.send(bytes, 0);
    }
  }
}

/** The way to a client: what is sent arrives in order, or not at all. */
class Road {
  readonly #client: Socket;
  #last: Promise<void> = Promise.resolve();
  /** How many pieces went out. */
  carried = 0;

  constructor(client: Socket) {
    this.#client = client;
  }

  send(bytes: Buffer, lateMs: number): void {
    this.carried += 1;
    this.#last = this.#last.then(async () => {
      if (lateMs > 0) await new Promise((resolve) => setTimeout(resolve, lateMs));
      if (this.#client.writable) this.#client.write(bytes);
    });
  }

  then(run: () => void): void {
    this.#last = this.#last.then(run);
  }

  /** Nothing more comes through. */
  block(): void {
    this.#last = new Promise(() => {});
  }
}

/** Takes a server's bytes apart: the answer to the upgrade, then whole frames, which servers send without a mask. */
class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  #isUpgraded = false;

  read(bytes: Buffer): { readonly bytes: Buffer; readonly isText: boolean }[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const pieces: { bytes: Buffer; isText: boolean }[] = [];
    for (let length = this.#length(); length !== null && length <= this.#rest.length; length = this.#length()) {
      const piece = this.#rest.subarray(0, length);
      this.#rest = this.#rest.subarray(length);
      pieces.push({ bytes: piece, isText: this.#isUpgraded && piece[0] === 0x81 });
      this.#isUpgraded = true;
    }
    return pieces;
  }

  /** How long the first piece is; null when that cannot be said yet. */
  #length(): number | null {
    if (!this.#isUpgraded) {
      const end = this.#rest.indexOf("\r\n\r\n");
      return end < 0 ? null : end + 4;
    }
    if (this.#rest.length < 2) return null;
    const short = this.#rest.readUInt8(1) & 0x7f;
    if (short < 126) return 2 + short;
    if (short === 126) return this.#rest.length < 4 ? null : 4 + this.#rest.readUInt16BE(2);
    return this.#rest.length < 10 ? null : 10 + Number(this.#rest.readBigUInt64BE(2));
  }
}
