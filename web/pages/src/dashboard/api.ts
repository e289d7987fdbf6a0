/** What the dashboard reads of the server that it comes from. Nothing here writes. */

export interface Show {
  readonly show_id: string;
  readonly title: string;
  readonly currency: string;
  readonly test: boolean;
  readonly state: "scheduled" | "live" | "ended";
  readonly started_at: number | null;
  readonly ended_at: number | null;
  readonly created_at: number;
}

export interface Point {
  readonly at: number;
  readonly viewers: number;
  readonly viewers_behind: number;
  readonly granted: number;
  readonly refused: number;
  readonly failed: number;
  readonly wait_p50_ms: number | null;
  readonly wait_p99_ms: number | null;
  readonly provider_errors: number;
  readonly provider_line: number;
  readonly orders: number;
  readonly gmv_minor: number;
  readonly refunded_minor: number;
}

export interface Mark {
  readonly seq: number;
  readonly at: number;
  readonly type: string;
  readonly text: string | null;
}

export interface TimelineAnswer {
  readonly state: Show["state"];
  readonly started_at: number | null;
  readonly ended_at: number | null;
  readonly currency: string;
  readonly step_ms: number;
  readonly points: readonly Point[];
  readonly marks: readonly Mark[];
  readonly more: boolean;
}

export interface Sale {
  readonly sale_id: string;
  readonly product_id: string;
  readonly price_minor: number;
  readonly cap: number;
  readonly starts_at: number;
  readonly ends_at: number | null;
  readonly state: "armed" | "running" | "ended";
  readonly ended_at: number | null;
}

export interface Poll {
  readonly poll_id: string;
  readonly question: string;
  readonly choices: readonly string[];
  readonly opened_at: number;
  readonly closed_at: number | null;
  readonly counts: readonly number[];
  readonly result: { readonly total: number; readonly winner: number | null } | null;
}

export interface Listed {
  readonly product_id: string;
  readonly title: string;
  readonly variant: string | null;
}

/** An event for the books; `data` depends on the type. */
export interface BookEvent {
  readonly id: string;
  readonly type: string;
  readonly time: string;
  readonly data: {
    readonly gmv_delta_minor?: number;
    readonly amount_minor?: number;
    readonly sale_id?: string | null;
    readonly lines?: readonly { readonly sale_id: string | null; readonly quantity: number; readonly unit_price_minor: number }[];
  };
}

/** The server has said no, and why. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }

  /** Whether asking again later may help. */
  get isPassing(): boolean {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

export interface Answer<T> {
  readonly body: T;
  readonly text: string;
  /** The server's clock, to the second. */
  readonly now: number;
}

const TIMEOUT_MS = 15_000;
const SHOWS_MAX_PAGES = 10;

/** A time line from a moment on, in as many answers as it takes. */
export async function whole(ask: (from: number) => Promise<TimelineAnswer>, from: number): Promise<TimelineAnswer> {
  const first = await ask(from);
  const points = new Map(first.points.map((it) => [it.at, it]));
  let { more } = first;
  let last = first.points.at(-1)?.at;
  while (more && last !== undefined) {
    const next = await ask(last);
    for (const point of next.points) points.set(point.at, point);
    const reached = next.points.at(-1)?.at;
    // One step that fills a whole answer would otherwise be asked for for ever.
    more = next.more && reached !== undefined && reached > last;
    last = reached;
  }
  return { ...first, points: [...points.values()], more: false };
}

export class Api {
  readonly #token: string;

  constructor(token: string) {
    this.#token = token;
  }

  show(show: string): Promise<Answer<Show>> {
    return this.#json(path(show));
  }

  /** From the latest on. A list of more than some thousand shows is cut at its beginning. */
  async shows(): Promise<Show[]> {
    const all: Show[] = [];
    let cursor = "";
    for (let page = 0; page < SHOWS_MAX_PAGES; page += 1) {
      const { body } = await this.#json<{ items: Show[]; next_cursor?: string }>(`/v1/shows?limit=500${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
      all.push(...body.items);
      if (body.next_cursor === undefined) break;
      cursor = body.next_cursor;
    }
    return all.reverse();
  }

  timeline(show: string, from: number, stepMs: number): Promise<Answer<TimelineAnswer>> {
    return this.#json(`${path(show)}/timeline?from=${from}&step_ms=${stepMs}`);
  }

  /** Everything from a moment on, in as many answers as it takes. */
  async wholeTimeline(show: string, from: number, stepMs: number): Promise<Answer<TimelineAnswer>> {
    const first = await this.timeline(show, from, stepMs);
    const ask = async (it: number) => (it === from ? first : await this.timeline(show, it, stepMs)).body;
    return { ...first, body: await whole(ask, from) };
  }

  async sales(show: string): Promise<readonly Sale[]> {
    return (await this.#json<Sale[]>(`${path(show)}/sales`)).body;
  }

  async polls(show: string): Promise<readonly Poll[]> {
    return (await this.#json<Poll[]>(`${path(show)}/polls`)).body;
  }

  async lineup(show: string): Promise<readonly Listed[]> {
    return (await this.#json<Listed[]>(`${path(show)}/lineup`)).body;
  }

  /** A page of events behind a place in the log; an empty one is the end. */
  async events(show: string, after: number): Promise<{ readonly events: readonly BookEvent[]; readonly next: number; readonly epoch: string }> {
    const response = await this.#ask(`${path(show)}/events.ndjson?after=${after}&limit=1000`);
    const events = (await response.text()).split("\n").filter((it) => it !== "").map((it) => JSON.parse(it) as BookEvent);
    const next = Number(response.headers.get("showcart-next-after") ?? after);
    return { events, next, epoch: response.headers.get("showcart-epoch") ?? "" };
  }

  async #json<T>(address: string): Promise<Answer<T>> {
    const response = await this.#ask(address);
    const text = await response.text();
    const said = Date.parse(response.headers.get("date") ?? "");
    return { body: JSON.parse(text) as T, text, now: Number.isNaN(said) ? Date.now() : said };
  }

  async #ask(address: string): Promise<Response> {
    const response = await fetch(address, { headers: { authorization: `Bearer ${this.#token}` }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.ok) return response;
    const problem: unknown = await response.json().catch(() => null);
    const detail = typeof problem === "object" && problem !== null && "detail" in problem ? String(problem.detail) : response.statusText;
    throw new Refused(response.status, detail);
  }
}

const path = (show: string): string => `/v1/shows/${encodeURIComponent(show)}`;
