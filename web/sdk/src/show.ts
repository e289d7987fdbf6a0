import { baseOf, liveAddress } from "./address.js";
import { Alignment, type PictureTime } from "./alignment.js";
import { Checkout } from "./checkout.js";
import { ServerClock, TimeSampler } from "./clock.js";
import { Connection, type ConnectionState } from "./connection.js";
import { defaultEnvironment, type Environment } from "./environment.js";
import { fold } from "./fold.js";
import { Gauges } from "./gauges.js";
import { Http } from "./http.js";
import { LogPosition, type Told } from "./log.js";
import { type Mine, MineKeeper } from "./mine.js";
import { Listeners, type Observable, select, type Unsubscribe, Value } from "./observable.js";
import type {
  Entry,
  EntryType,
  Frame,
  GaugeName,
  GaugeValue,
  Hello,
  Millis,
  PollId,
  Refused,
  Scene,
  ServerMessage,
  Snapshot,
  WireGauge,
} from "./protocol.js";
import { Renewal } from "./renewal.js";
import { Sandbox } from "./sandbox.js";
import { Storage } from "./storage.js";
import { type TokenFunction, Tokens } from "./token.js";
import { Votes } from "./votes.js";

/** Which show, whose eyes, and with what. */
export interface ShowOptions {
  /** The server's address, such as `https://live.shop.example`; with a path when it does not stand at the root. */
  readonly server: string;
  /** The show's id, `shw_…`. */
  readonly showId: string;
  /**
   * The viewer's token, or a function that gives a fresh one whenever it is needed. Without it the viewer is a guest,
   * who is the same guest in this browser for 30 days.
   */
  readonly token?: string | TokenFunction;
  /** The programme time of the picture on screen: then what happens on stage is shown when the picture shows it. */
  readonly pictureTime?: PictureTime;
  /** How late something may be because of the picture, in milliseconds; 15,000 when absent. */
  readonly alignmentLimitMs?: number;
  /**
   * Replaces parts of the world around: sockets, `fetch`, storage, clock, where errors of listeners go. A plain object:
   * what stands on a prototype is not seen.
   */
  readonly environment?: Partial<Environment>;
}

const ALIGNMENT_LIMIT_MS = 15_000;

/** What is taken from a frame: an entry, or a gauge. */
type Item = Told | { readonly gauge: readonly [name: string, gauge: WireGauge] };

/** Begins to watch a show. */
export function connect(options: ShowOptions): Show {
  return new Show(options);
}

/** A show that is being watched. */
export class Show {
  readonly id: string;
  /** Holds, orders and payments of this buyer. */
  readonly checkout: Checkout;
  /** The payment sandbox, for servers that have one. */
  readonly sandbox: Sandbox;

  readonly #server: string;
  readonly #clock: ServerClock;
  readonly #sampler: TimeSampler;
  readonly #tokens: Tokens;
  readonly #renewal: Renewal;
  readonly #connection: Connection;
  readonly #http: Http;
  readonly #votes: Votes;
  readonly #log = new LogPosition();
  readonly #isAligned: boolean;
  readonly #alignment: Alignment<Item>;
  readonly #scene: Value<Scene | null>;
  readonly #gauges: Gauges;
  readonly #mine: MineKeeper;
  readonly #every: Listeners<Entry>;
  readonly #byType = new Map<string, Listeners<Entry>>();
  readonly #environment: Environment;
  #epoch: string | null = null;

  /** Use `connect`. */
  constructor(options: ShowOptions) {
    const environment: Environment = { ...defaultEnvironment(), ...options.environment };
    const report = environment.reportError;
    this.id = options.showId;
    this.#environment = environment;
    this.#server = baseOf(options.server);
    this.#clock = new ServerClock(environment.clock);
    const serverNow = () => this.#clock.now();

    const storage = new Storage(environment.storage);
    this.#tokens = new Tokens(options.token ?? null, this.#server, storage, serverNow);
    this.#connection = new Connection({
      environment,
      tokens: this.#tokens,
      url: () => this.#url(),
      opened: (hello, at) => this.#opened(hello, at),
      message: (message, at) => this.#heard(message, at),
      lost: () => this.#quiet(),
    });
    this.#sampler = new TimeSampler(environment.clock, (echo) => this.#connection.send({ type: "time", echo }));
    this.#renewal = new Renewal({
      environment,
      tokens: this.#tokens,
      serverNow,
      give: (token) => this.#connection.send({ type: "token", token }),
      refused: () => this.#connection.restart("token_expired"),
    });

    this.#scene = new Value<Scene | null>(null, report);
    this.#gauges = new Gauges(report);
    this.#mine = new MineKeeper(report);
    this.#every = new Listeners(report);
    this.#isAligned = options.pictureTime !== undefined;
    this.#alignment = new Alignment<Item>({
      pictureTime: options.pictureTime ?? null,
      limitMs: options.alignmentLimitMs ?? ALIGNMENT_LIMIT_MS,
      clock: environment.clock,
      serverNow,
      release: (items) => this.#show(items),
      reportError: report,
    });

    this.#votes = new Votes(environment, (message) => this.#connection.send(message));
    this.#http = new Http(environment, this.#tokens, this.#server);
    this.checkout = new Checkout({
      environment,
      http: this.#http,
      tokens: this.#tokens,
      storage,
      mine: this.#mine,
      server: this.#server,
      showId: this.id,
      seen: () => ({ position: this.#log.since }),
    });
    this.sandbox = new Sandbox(environment, this.checkout);

    this.#connection.state.subscribe(({ status }) => {
      if (status === "closed") this.#ended();
    });
    this.#connection.start();
  }

  /** Whether the show is connected, and if not, why and what comes next. */
  get connection(): Observable<ConnectionState> {
    return this.#connection.state;
  }

  /** What the viewer sees; null until the server has said so for the first time. */
  get scene(): Observable<Scene | null> {
    return this.#scene;
  }

  /** One part of the scene; its subscribers hear of changes of this part only. Null until there is a scene. */
  part<K extends keyof Scene>(name: K): Observable<Scene[K] | null> {
    return select(this.#scene, (scene) => (scene === null ? null : scene[name]));
  }

  /** A number of which only the latest value matters; undefined until the server has told it. */
  gauge<N extends GaugeName>(name: N): Observable<GaugeValue<N> | undefined> {
    return this.#gauges.observe(name);
  }

  /** What this buyer holds, has ordered and voted; null until the server has told it, and always at the desk. */
  get mine(): Observable<Mine | null> {
    return this.#mine.value;
  }

  /**
   * Calls `listener` with each entry of a type, once and in order, also across reconnects; the scene contains it
   * already. What happened before a snapshot is in the scene alone: entries that nobody needs to hear any more are not
   * told.
   */
  on<T extends EntryType>(type: T, listener: (entry: Entry<T>) => void): Unsubscribe {
    const listeners = this.#byType.get(type) ?? new Listeners<Entry>(this.#environment.reportError);
    this.#byType.set(type, listeners);
    // Only entries of this type come here.
    return listeners.add((entry) => listener(entry as Entry<T>));
  }

  /** Calls `listener` with each entry of any type, as `on` does, also of types that are newer than this SDK. */
  onEntry(listener: (entry: Entry) => void): Unsubscribe {
    return this.#every.add(listener);
  }

  /** Now by the server's clock, in milliseconds since 1970: for countdowns, because the server decides what is late. */
  serverNow(): Millis {
    return this.#clock.now();
  }

  /**
   * The moment of the stage that the viewer sees, in milliseconds since 1970: with `pictureTime` that of the picture, at
   * most `alignmentLimitMs` ago, otherwise the same as `serverNow()`. For animations, so that one that belongs to a late
   * picture is not over before it is seen.
   */
  stageNow(): Millis {
    return Math.round(this.#alignment.now());
  }

  /**
   * Votes for a choice of a poll, by its place from 0. Gives the choice that counts, which is another one when this
   * viewer has voted before.
   *
   * @throws RefusedError with `poll_closed`, `guests_may_not_vote`, `rate_limited`, `invalid`, `not_found` or
   * `forbidden`; UnansweredError after two minutes without an answer; ClosedError.
   */
  async vote(pollId: PollId, choice: number): Promise<number> {
    const counts = await this.#votes.cast(pollId, choice);
    this.#mine.noteVote(pollId, counts);
    return counts;
  }

  /**
   * Stops watching: what was subscribed to says nothing more, and what is on its way fails with `ClosedError`. A
   * purchase on its way keeps its key, so that whoever comes back can go on with it.
   */
  close(): void {
    this.#connection.close("by_caller");
  }

  #url(): string {
    const since = this.#scene.get() === null ? null : this.#log.since;
    const query = since === null ? "" : `?since=${encodeURIComponent(since)}`;
    return liveAddress(this.#server, this.id) + query;
  }

  #opened(hello: Hello, at: number): void {
    this.#clock.hear(hello.t, at);
    this.#log.hello(hello);
    if (hello.guest_token !== undefined) this.#tokens.keepGuest(hello.guest_token);
    this.#sampler.start();
    this.#renewal.start(hello.expires_at);
    this.#votes.opened();
  }

  /** Nobody is there to be asked. */
  #quiet(): void {
    this.#sampler.stop();
    this.#renewal.stop();
  }

  #ended(): void {
    this.#alignment.stop();
    this.#votes.close();
    this.#http.close();
  }

  #heard(message: ServerMessage, at: number): void {
    if (Number.isFinite(message.t)) this.#clock.hear(message.t, at);
    switch (message.type) {
      case "snapshot":
        return this.#replace(message);
      case "frame":
        return this.#take(message);
      case "mine":
        return this.#mine.replace(message);
      case "own":
        return this.#mine.own(message).forEach((entry) => this.#tell(entry));
      case "time":
        if (typeof message.echo === "number") this.#clock.sample(message.t, message.echo);
        return;
      case "token":
        return this.#renewal.taken(message.expires_at);
      case "voted":
        return this.#votes.counted(message.poll_id, message.choice);
      case "problem":
        return this.#refused(message);
    }
  }

  #refused({ to, problem }: Refused): void {
    if (to === "token") return this.#renewal.refused();
    this.#votes.refused(problem);
  }

  #replace(snapshot: Snapshot): void {
    // What waits for the picture is part of it; it is told, and then the present is shown.
    this.#alignment.flush();
    if (snapshot.epoch !== this.#epoch) this.#mine.forget();
    this.#epoch = snapshot.epoch;
    this.#log.snapshot(snapshot);
    this.#gauges.replace(snapshot.gauges);
    this.#scene.set(snapshot.scene);
  }

  #take(frame: Frame): void {
    if (!this.#log.isReady) return;
    const told = this.#log.frame(frame);
    if (told === null) return this.#connection.restart("gap");
    const items: { at: Millis; item: Item }[] = told.map((it) => ({ at: it.entry.at, item: it }));
    for (const gauge of Object.entries(frame.gauges ?? {})) items.push({ at: gauge[1][2], item: { gauge } });
    if (!this.#isAligned) return this.#show(items.map(({ item }) => item));
    this.#show(items.filter(({ item }) => !waitsForPicture(item)).map(({ item }) => item));
    this.#alignment.add(items.filter(({ item }) => waitsForPicture(item)));
  }

  /** Makes it the present: the scene and the gauges first, where whoever hears of an entry looks. */
  #show(items: readonly Item[]): void {
    const told = items.filter((item) => "entry" in item);
    const before = this.#scene.get();
    // Frames come only after a snapshot.
    if (before !== null) this.#scene.set(told.reduce((scene, { entry }) => fold(scene, entry), before));
    for (const item of items) if ("gauge" in item) this.#gauges.take(...item.gauge);
    for (const { entry, isNews } of told) if (isNews) this.#tell(entry);
  }

  #tell(entry: Entry): void {
    this.#every.tell(entry);
    this.#byType.get(entry.type)?.tell(entry);
  }
}

/**
 * What belongs to the picture: the show's beginning and end, pins, banners, timers, polls and their tallies. What
 * decides about buying never waits: sales, the line-up with its prices, units, and all that is this buyer's alone. The
 * two kinds touch different parts of the scene, so each keeps its own order.
 */
function waitsForPicture(item: Item): boolean {
  const name = "entry" in item ? item.entry.type : item.gauge[0];
  return /^(show|pin|banner|timer)\.|^poll[.:]/.test(name);
}
