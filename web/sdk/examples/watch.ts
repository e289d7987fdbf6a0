// Connect, and show the pin, a counter and a countdown.
import { connect } from "@showcart/sdk";

const show = connect({
  server: "https://live.shop.example",
  showId: "shw_0198f2a4c6d87a3eb1f05a6c7d8e9f00",
  // Asked whenever a fresh token is needed. Leave it out, and the viewer is a guest.
  token: async () => (await fetch("/showcart-token")).text(),
});

show.part("pin").subscribe((pin) => {
  const card = document.querySelector("#pin");
  if (card === null) return;
  card.textContent = pin === null ? "" : pin.product.title;
  card.classList.toggle("entering", pin !== null && pin.animate_until > show.stageNow());
});

show.gauge("viewers").subscribe((viewers) => {
  document.title = viewers === undefined ? "Live" : `Live: ${viewers} watching`;
});

show.part("timers").subscribe((timers) => {
  // Timers are moments in the server's time; count by yourself, as often as you like.
  for (const { label, ends_at } of Object.values(timers ?? {})) {
    console.log(label, Math.max(0, ends_at - show.serverNow()), "ms left");
  }
});

// Each entry of the show's log comes once and in order, also across reconnects.
show.on("poll.closed", ({ data }) => console.log("the winner is choice", data.winner));

show.connection.subscribe((state) => {
  if (state.status === "closed") console.warn("not connected any more:", state.reason);
});
