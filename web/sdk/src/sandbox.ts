import type { Order } from "./api.js";
import type { Checkout } from "./checkout.js";
import type { Environment } from "./environment.js";
import { ShowcartError, UnansweredError } from "./errors.js";
import { pause, within } from "./waiting.js";

/** The cards of the sandbox: each says how the payment goes. No real money moves. */
export type SandboxCard = "tok_success" | "tok_decline" | "tok_3ds" | "tok_processing";

/** Where a payment stands at the provider. */
export interface SandboxPayment {
  readonly status: "succeeded" | "requires_action" | "processing" | "requires_payment_method" | "canceled";
  /** Why the last try failed: `card_declined`, `authentication_failed`, … */
  readonly error: { readonly code: string; readonly message: string } | null;
}

const TRY_MS = 10_000;
const AGAIN_MS = 1_000;
const PATIENCE_MS = 30_000;

/**
 * The payment sandbox, as the buyer's browser sees it: a page asks it directly, as it would ask a real provider. That
 * the order is paid is said by the show: `order.confirmed`, or the order's `state`.
 *
 * `tok_3ds` answers `requires_action`; then the buyer passes or fails the bank's question with `authenticate`.
 */
export class Sandbox {
  readonly #environment: Environment;
  readonly #checkout: Checkout;

  constructor(environment: Environment, checkout: Checkout) {
    this.#environment = environment;
    this.#checkout = checkout;
  }

  /** Pays with a card. @throws UnansweredError when the sandbox gives no answer within half a minute. */
  confirm(order: Order, card: SandboxCard): Promise<SandboxPayment> {
    return this.#ask(order, "confirm", { payment_method: card });
  }

  /** Answers the bank's question. @throws UnansweredError when the sandbox gives no answer within half a minute. */
  authenticate(order: Order, outcome: "pass" | "fail"): Promise<SandboxPayment> {
    return this.#ask(order, "authenticate", { outcome });
  }

  async #ask(order: Order, what: string, body: Record<string, string>): Promise<SandboxPayment> {
    const { clock } = this.#environment;
    const start = clock.monotonic();
    for (;;) {
      try {
        const late = () => new UnansweredError("The payment sandbox took too long.");
        const answer = await within(clock, TRY_MS, this.#try(order, what, body), late);
        if (answer !== null) return answer;
      } catch (cause) {
        if (cause instanceof ShowcartError && !(cause instanceof UnansweredError)) throw cause;
      }
      if (clock.monotonic() - start > PATIENCE_MS) throw new UnansweredError("The payment sandbox gives no answer.");
      await pause(clock, AGAIN_MS);
      // A sandbox that was started again is at another address.
      order = await this.#checkout.order(order.order_id);
    }
  }

  /** Null when the sandbox does not want to work now. */
  async #try(order: Order, what: string, body: Record<string, string>): Promise<SandboxPayment | null> {
    const { provider_url, intent_id, client_secret } = order.payment;
    if (intent_id === null || client_secret === null) {
      throw new ShowcartError("not_payable", "The payment cannot be confirmed yet, or not by this buyer.");
    }
    const response = await this.#environment.fetch(`${provider_url}/v1/payment_intents/${intent_id}/${what}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, client_secret }),
    });
    if (response.status === 429 || response.status >= 500) return null;
    // A refusal shows the intent that is its reason: a declined card, or a step that was made before.
    const answer = (await response.json()) as SandboxAnswer;
    const intent = answer.payment_intent ?? answer;
    if (intent.status === undefined)
      throw new ShowcartError(answer.code ?? "not_payable", answer.message ?? "The sandbox said no.");
    return { status: intent.status, error: intent.last_payment_error ?? null };
  }
}

interface SandboxIntent {
  readonly status?: SandboxPayment["status"];
  readonly last_payment_error?: SandboxPayment["error"];
}

interface SandboxAnswer extends SandboxIntent {
  readonly code?: string;
  readonly message?: string;
  readonly payment_intent?: SandboxIntent;
}
