/**
 * The custom element for other people's pages. One script makes it known:
 *
 *     <script type="module" src="https://live.shop.example/element.js"></script>
 *     <showcart-show server="https://live.shop.example" show="shw_…" token="…"></showcart-show>
 *
 * Without `server` it is the one that the script came from.
 */
import "./viewer/show.js";

export { ShowcartShow } from "./viewer/show.js";
