import type { Environment } from "./environment.js";
import { ClosedError, ShowcartError, UnansweredError } from "./errors.js";
import { underPolicy } from "./policy.js";
import type { Problem } from "./protocol.js";
import type { Tokens } from "./token.js";
import { pause, within } from "./waiting.js";

/** One request gets its answer within this time, or is repeated. */
const TRY_MS = 12_000;
/** A request with its repetitions is given up after this time. */
const PATIENCE_MS = 60_000;
/** Before the first repetition when the server names no time; then longer each time. */
const AGAIN_MS = 500;
const AGAIN_MAX_MS = 8_000;

/** One request, which may be sent several times. */
export interface HttpRequest {
  readonly method: "GET" | "POST" | "DELETE";
  /** Behind the server's address, from `/v1`. */
  readonly path: string;
  readonly body?: unknown;
  /** The idempotency key of a POST. */
  readonly key?: string;
  /** The key was sent before, and no answer came. */
  readonly isRepetition?: boolean;
}

/** What the server said in the end. */
export type Reply<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: Problem };

type Attempt<T> =
  { readonly reply: Reply<T> } | { readonly again: { readonly afterMs: number | null; readonly cause: unknown } };

/**
 * Asks until there is an answer: what has a key, and what may be done twice, is repeated after time-outs and refusals
 * to work.
 */
export class Http {
  readonly #environment: Environment;
  readonly #tokens: Tokens;
  readonly #server: string;
  /** Aborted when the show is closed. */
  readonly #closing = new AbortController();

  constructor(environment: Environment, tokens: Tokens, server: string) {
    this.#environment = environment;
    this.#tokens = tokens;
    this.#server = server;
  }

  /**
   * Gives the server's answer, or its refusal.
   *
   * @throws UnansweredError when no answer came within a minute; ClosedError when the show was closed before;
   * ShowcartError with the code `forbidden_by_page` when the page's Content-Security-Policy does not name the server.
   */
  async request<T>(request: HttpRequest): Promise<Reply<T>> {
    const { clock, random } = this.#environment;
    const start = clock.monotonic();
    let isRepetition = request.isRepetition === true;
    for (let pauseMs = AGAIN_MS; ; pauseMs = Math.min(pauseMs * 2, AGAIN_MAX_MS)) {
      const attempt = await this.#unlessClosed(this.#attempt<T>({ ...request, isRepetition }));
      if ("reply" in attempt) return attempt.reply;
      // Those who were told the same time do not come back in one moment.
      const ms = (attempt.again.afterMs ?? pauseMs / 2) + (random() * pauseMs) / 2;
      if (clock.monotonic() - start + ms > PATIENCE_MS) {
        throw new UnansweredError("The server gives no answer.", { cause: attempt.again.cause });
      }
      await this.#unlessClosed(pause(clock, ms));
      isRepetition = true;
    }
  }

  /** Gives up what is on its way. */
  close(): void {
    this.#closing.abort();
  }

  async #unlessClosed<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.#closing;
    let close = () => {};
    const closed = new Promise<never>((_, reject) => {
      close = () => reject(new ClosedError());
      signal.addEventListener("abort", close);
    });
    if (signal.aborted) close();
    try {
      return await Promise.race([promise, closed]);
    } finally {
      signal.removeEventListener("abort", close);
    }
  }

  async #attempt<T>(request: HttpRequest): Promise<Attempt<T>> {
    const abort = new AbortController();
    const end = () => abort.abort();
    this.#closing.signal.addEventListener("abort", end);
    const late = () => new UnansweredError("The request took too long.");
    try {
      return await within(this.#environment.clock, TRY_MS, this.#authorised<T>(request, abort.signal), late);
    } catch (cause) {
      if (cause instanceof ShowcartError && cause.code === "forbidden_by_page") throw cause;
      // Whether it was carried out is not known.
      return { again: { afterMs: null, cause } };
    } finally {
      end();
      this.#closing.signal.removeEventListener("abort", end);
    }
  }

  /** Asks with a token, and once more when that had ended. */
  async #authorised<T>(request: HttpRequest, signal: AbortSignal): Promise<Attempt<T>> {
    const token = await this.#tokens.current();
    const first = await this.#send<T>(request, token, signal);
    const isRefused = "reply" in first && !first.reply.ok && first.reply.problem.status === 401;
    if (!isRefused || !this.#tokens.isRenewable || !(await this.#tokens.refused(token))) return first;
    return this.#send<T>(request, await this.#tokens.current(), signal);
  }

  async #send<T>(request: HttpRequest, token: string | null, signal: AbortSignal): Promise<Attempt<T>> {
    const headers: Record<string, string> = {};
    if (token !== null) headers["authorization"] = `Bearer ${token}`;
    if (request.key !== undefined) headers["idempotency-key"] = request.key;
    if (request.key !== undefined && request.isRepetition === true) headers["idempotency-retry"] = "true";
    const init: RequestInit = { method: request.method, headers, signal };
    if (request.body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(request.body);
    }
    const { clock, fetch } = this.#environment;
    const url = this.#server + request.path;
    const response = await underPolicy(clock, url, () => fetch(url, init));
    if (response.status === 429 || response.status === 408 || response.status >= 500) {
      const problem = await problemOf(response);
      return { again: { afterMs: retryAfterMs(response), cause: problem.detail } };
    }
    if (!response.ok) return { reply: { ok: false, problem: await problemOf(response) } };
    // The server's word for its own API. An answer that is cut off throws, and is asked for again.
    return { reply: { ok: true, value: (await response.json()) as T } };
  }
}

/** The refusal; whatever stands between us and the server may answer without one. */
async function problemOf(response: Response): Promise<Problem> {
  const { status, statusText } = response;
  const body: unknown = await response.json().catch(() => null);
  if (typeof body === "object" && body !== null && "code" in body && "detail" in body) return body as Problem;
  return {
    type: "about:blank",
    title: statusText,
    status,
    code: `http_${status}`,
    detail: `The answer is ${status} ${statusText}.`,
  };
}

/** `Retry-After` in milliseconds, when it is a number of seconds. */
function retryAfterMs(response: Response): number | null {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : null;
}
