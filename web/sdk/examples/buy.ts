// Buy one unit of a sale. A tap whose answer was lost is the same tap when it is repeated, also after a reload.
import type { SaleId, Show } from "@showcart/sdk";

export async function buy(show: Show, saleId: SaleId): Promise<string> {
  const result = await show.checkout.hold([{ sale_id: saleId, quantity: 1 }]);
  switch (result.status) {
    case "held":
      break;
    case "sold_out":
      return "Sold out.";
    case "all_held":
      return `All in checkout; try again in ${Math.ceil(result.retry_after_ms / 1000)} s.`;
    case "limit_reached":
      return `At most ${result.limit} each.`;
    default:
      return `Not now: ${result.status}`;
  }
  const payment = await show.checkout.pay(result.hold.hold_id, {
    onLine: (order) => console.log(order.payment.line, "before you"),
  });
  if (payment.status !== "open") return `The payment is ${payment.status}.`;
  // The sandbox is asked by the browser itself, as a real provider would be.
  let paid = await show.sandbox.confirm(payment.order, "tok_3ds");
  if (paid.status === "requires_action") paid = await show.sandbox.authenticate(payment.order, "pass");
  return paid.status === "succeeded" ? "Paid; the confirmation follows." : (paid.error?.message ?? paid.status);
}

export function afterReload(show: Show): void {
  show.on("order.confirmed", ({ data }) => console.log("confirmed:", data.order_id));
  // Holds and orders that this buyer has, on whatever device they were made.
  show.mine.subscribe((mine) => console.log(mine?.holds, mine?.orders));
  void show.checkout.unanswered().then((wishes) => {
    for (const { lines } of wishes) void show.checkout.hold(lines);
  });
}
