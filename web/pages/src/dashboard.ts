import { Dashboard } from "./dashboard/page.js";

new Dashboard(document.body).open();
// Another link into the same tab is another show or another token.
addEventListener("hashchange", () => location.reload());
