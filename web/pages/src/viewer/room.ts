import type { NewLine, PollId, Role, Show } from "@showcart/sdk";
import type { Buying, Checkout } from "./buying.js";

/** What the parts of the viewer page need of the whole. */
export interface Room {
  readonly show: Show;
  readonly buying: Buying;
  /** Null until the server has said who we are. */
  readonly role: Role | null;
  readonly isLive: boolean;
  /** Now by the server's clock. */
  readonly now: () => number;
  readonly announce: (text: string) => void;
  /** Counts what the buyer's parts should render for. */
  readonly revision: number;
  /** Goes on with a checkout that waits for the buyer. */
  readonly goOn: (checkout: Checkout) => void;
  /** The buyer taps: buys, goes on with what was begun, or asks for a sign-in. */
  readonly want: (wanted: NewLine) => void;
  /** Somebody must sign in for what they want. */
  readonly signIn: (why: "buy" | "vote" | "watch") => void;
  readonly vote: (poll: PollId, choice: number) => Promise<void>;
}
