import type { Problem } from "./protocol.js";

/** What every error of this SDK is. Decide by `code`, which is stable; `message` is a sentence for developers. */
export class ShowcartError extends Error {
  override readonly name: string = "ShowcartError";
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The server said no. `code` is the problem's. */
export class RefusedError extends ShowcartError {
  override readonly name = "RefusedError";
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.code, problem.detail);
    this.problem = problem;
  }
}

/**
 * No answer came in time, however often it was asked (`code` is `unanswered`): what was asked for may have happened.
 * Asking for the same again is safe; it carries the same key.
 */
export class UnansweredError extends ShowcartError {
  override readonly name = "UnansweredError";

  constructor(message: string, options?: ErrorOptions) {
    super("unanswered", message, options);
  }
}

/**
 * The show was closed, by `close()` or because the server does not want to see this client again (`code` is `closed`).
 */
export class ClosedError extends ShowcartError {
  override readonly name = "ClosedError";

  constructor(message = "The connection to the show is closed.") {
    super("closed", message);
  }
}
