/** Live shopping in a browser. Begin with {@link connect}. */
export type { PictureTime } from "./alignment.js";
export type { Hold, NewLine, Order, OrderPage, Payment } from "./api.js";
export type { DisconnectReason } from "./backoff.js";
export type {
  Checkout,
  HoldOptions,
  HoldResult,
  PayOptions,
  PayResult,
  ReleaseResult,
  UnansweredHold,
} from "./checkout.js";
export type { ConnectionState } from "./connection.js";
export type {
  Cancel,
  Environment,
  KeyValueStorage,
  LocalClock,
  PageSignals,
  SocketEvent,
  SocketLike,
} from "./environment.js";
export { ClosedError, RefusedError, ShowcartError, UnansweredError } from "./errors.js";
export { fold } from "./fold.js";
export type { Mine } from "./mine.js";
export type { Observable, ReportError, Unsubscribe } from "./observable.js";
export type {
  Action,
  Banner,
  Card,
  Currency,
  EndReason,
  Entry,
  EntryData,
  EntryType,
  GaugeName,
  GaugeValue,
  Gmv,
  HoldId,
  Line,
  ListedProduct,
  Millis,
  Minor,
  MyHold,
  MyOrder,
  OrderId,
  OverlayId,
  PaidLine,
  PaymentId,
  Pin,
  Poll,
  PollId,
  PollResult,
  Problem,
  ProblemCode,
  ProductId,
  RefundId,
  RefundReason,
  Role,
  Sale,
  SaleId,
  SaleOnStage,
  Scene,
  ShowId,
  Stage,
  Tally,
  Timer,
  Units,
} from "./protocol.js";
export type { Sandbox, SandboxCard, SandboxPayment } from "./sandbox.js";
export { connect, type Show, type ShowOptions } from "./show.js";
export type { TokenFunction } from "./token.js";
