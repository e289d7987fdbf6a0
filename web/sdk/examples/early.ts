// The first picture sooner: a small module opens the socket while the rest is still on its way.
import { openEarly } from "@showcart/sdk/early";

const where = { server: "https://live.shop.example", showId: "shw_0198f2a4c6d87a3eb1f05a6c7d8e9f00" };
const socket = openEarly(where);
const { connect } = await import("@showcart/sdk");
const show = connect({ ...where, environment: { socket } });
show.part("pin").subscribe((pin) => console.log(pin?.product.title));
