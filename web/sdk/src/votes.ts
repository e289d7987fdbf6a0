import type { Cancel, Environment } from "./environment.js";
import { ClosedError, RefusedError, UnansweredError } from "./errors.js";
import type { ClientMessage, PollId, Problem } from "./protocol.js";
import { within } from "./waiting.js";

/** Between two tries of a vote that could not be counted, at most. */
const AGAIN_MS = 2_000;
/** A vote is sent again when no answer came within this time. */
const ANSWER_MS = 5_000;
/** Longer than this nobody waits for a vote; after the poll it is answered for two minutes. */
const PATIENCE_MS = 120_000;

interface PendingVote {
  readonly choice: number;
  readonly answer: Promise<number>;
  readonly resolve: (choice: number) => void;
  readonly reject: (error: Error) => void;
  cancelRetry: Cancel | null;
}

/** Votes on their way. A vote may be sent as often as one likes: it counts once. */
export class Votes {
  readonly #environment: Environment;
  readonly #send: (message: ClientMessage) => boolean;
  readonly #pending = new Map<PollId, PendingVote>();
  #isClosed = false;

  constructor(environment: Environment, send: (message: ClientMessage) => boolean) {
    this.#environment = environment;
    this.#send = send;
  }

  /** Gives the choice that counts. While a vote is on its way, another one in the same poll gets its answer. */
  cast(pollId: PollId, choice: number): Promise<number> {
    if (this.#isClosed) return Promise.reject(new ClosedError());
    const known = this.#pending.get(pollId);
    if (known !== undefined) return known.answer;
    let settle!: Pick<PendingVote, "resolve" | "reject">; // Set by the constructor of the promise, before it returns.
    const settled = new Promise<number>((resolve, reject) => (settle = { resolve, reject }));
    const late = () => new UnansweredError("What became of the vote is not known.");
    const answer = within(this.#environment.clock, PATIENCE_MS, settled, late).finally(() => this.#forget(pollId));
    this.#pending.set(pollId, { choice, answer, ...settle, cancelRetry: null });
    this.#try(pollId);
    return answer;
  }

  /** A socket is open: what was not answered on the one before is sent again. */
  opened(): void {
    for (const pollId of this.#pending.keys()) this.#try(pollId);
  }

  /** The server said which choice counts. */
  counted(pollId: PollId, choice: number): void {
    this.#pending.get(pollId)?.resolve(choice);
  }

  /** The server said no to something. */
  refused(problem: Problem): void {
    // Some refusals do not say of what. They are about all that wait; it is safe to send those again.
    const about = problem.poll_id === undefined ? [...this.#pending.keys()] : [problem.poll_id];
    for (const pollId of about) this.#refuse(pollId, problem);
  }

  close(): void {
    this.#isClosed = true;
    for (const vote of this.#pending.values()) vote.reject(new ClosedError());
  }

  #refuse(pollId: PollId, problem: Problem): void {
    const vote = this.#pending.get(pollId);
    if (vote === undefined) return;
    if (problem.code === "already_voted" && problem.choice !== undefined) vote.resolve(problem.choice);
    else if (problem.status >= 500) this.#again(pollId, vote, this.#environment.random() * AGAIN_MS);
    else vote.reject(new RefusedError(problem));
  }

  #try(pollId: PollId): void {
    const vote = this.#pending.get(pollId);
    if (vote === undefined) return;
    this.#again(pollId, vote, ANSWER_MS);
    // Without a socket: as soon as there is one.
    this.#send({ type: "vote", poll_id: pollId, choice: vote.choice });
  }

  #again(pollId: PollId, vote: PendingVote, ms: number): void {
    vote.cancelRetry?.();
    vote.cancelRetry = this.#environment.clock.after(ms, () => this.#try(pollId));
  }

  #forget(pollId: PollId): void {
    this.#pending.get(pollId)?.cancelRetry?.();
    this.#pending.delete(pollId);
  }
}
