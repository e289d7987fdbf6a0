import type { Order } from "./api.js";
import type { Checkout } from "./checkout.js";
import type { Environment } from "./environment.js";
import { ShowcartError, UnansweredError } from "./errors.js";
import { underPolicy } from "./policy.js";
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
/** A call that fails sooner than this was not slow: something refused it. */
const AT_ONCE_MS = 1_000;
/** So many refusals one after the other are no bad luck, because our own server was reached between them. */
const REFUSALS_MAX = 5;

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

  /**
   * Pays with a card.
   *
   * @throws UnansweredError when the sandbox gives no answer within half a minute; ShowcartError with the code
   * `forbidden_by_page` at once when the page's Content-Security-Policy does not name the sandbox, and
   * `provider_unreachable` after some seconds when the browser does not get through to it, but to our server.
   */
  confirm(order: Order, card: SandboxCard): Promise<SandboxPayment> {
    return this.#ask(order, "confirm", { payment_method: card });
  }

  /** Answers the bank's question; throws what `confirm` throws. */
  authenticate(order: Order, outcome: "pass" | "fail"): Promise<SandboxPayment> {
    return this.#ask(order, "authenticate", { outcome });
  }

  async #ask(order: Order, what: string, body: Record<string, string>): Promise<SandboxPayment> {
    const { clock } = this.#environment;
    const start = clock.monotonic();
    for (let refusals = 0; ; ) {
      const asked = clock.monotonic();
      try {
        const late = () => new UnansweredError("The payment sandbox took too long.");
        const answer = await within(clock, TRY_MS, this.#try(order, what, body), late);
        if (answer !== null) return answer;
        refusals = 0;
      } catch (cause) {
        if (cause instanceof ShowcartError && !(cause instanceof UnansweredError)) throw cause;
        refusals = clock.monotonic() - asked < AT_ONCE_MS ? refusals + 1 : 0;
        if (refusals === REFUSALS_MAX) {
          const what = `The payment provider at ${order.payment.provider_url} cannot be reached from here, but our server can.`;
          throw new ShowcartError("provider_unreachable", what, { cause });
        }
      }
      if (clock.monotonic() - start > PATIENCE_MS) throw new UnansweredError("The payment sandbox gives no answer.");
      await pause(clock, AGAIN_MS);
      // A sandbox that was started again is at another address.
      const before = order.payment.provider_url;
      order = await this.#checkout.order(order.order_id);
      if (order.payment.provider_url !== before) refusals = 0;
    }
  }

  /** Null when the sandbox does not want to work now. */
  async #try(order: Order, what: string, body: Record<string, string>): Promise<SandboxPayment | null> {
    const { provider_url, intent_id, client_secret } = order.payment;
    if (intent_id === null || client_secret === null) {
      throw new ShowcartError("not_payable", "The payment cannot be confirmed yet, or not by this buyer.");
    }
    const { clock, fetch } = this.#environment;
    const url = `${provider_url}/v1/payment_intents/${intent_id}/${what}`;
    const init = {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, client_secret }),
    };
    const response = await underPolicy(clock, url, () => fetch(url, init));
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
