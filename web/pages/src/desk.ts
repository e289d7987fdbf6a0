import { desk as texts } from "./texts/desk.en.js";
import { Api } from "./desk/api.js";
import { Desk } from "./desk/desk.js";
import "./desk/door.js";
import type { Door } from "./desk/door.js";
import "./desk/panel.js";
import type { Panel } from "./desk/panel.js";
import { read, THEME, write } from "./design/kept.js";
import { claimsOf } from "./design/claims.js";
import { arrive, forget, keep, serverOf, type Session } from "./desk/session.js";

// The server that is asked for in the address outlives the sign-out, which forgets the rest.
const server = new URLSearchParams(location.hash.slice(1)).get("server");
let desk: Desk | null = null;

/** The way in; with a session, behind the token. */
function door(session: Session | null): void {
  desk?.close();
  desk = null;
  document.title = texts.page;
  const element = document.createElement("showcart-desk-door") as Door;
  element.server = session?.server ?? server ?? serverOf();
  element.session = session;
  element.addEventListener("showcart-signed-in", (event) => keep((event as CustomEvent<Session>).detail));
  element.addEventListener("showcart-enter", (event) => enter((event as CustomEvent<Session>).detail));
  element.addEventListener("showcart-sign-out", () => {
    forget();
    door(null);
  });
  document.body.replaceChildren(element);
}

function enter(session: Session): void {
  const { show, token } = session;
  if (show === null) return door(session);
  keep(session);
  desk = new Desk(new Api(session.server, token), show);
  desk.show.part("show").subscribe((stage) => {
    if (stage !== null) document.title = `${stage.title} · ${texts.page}`;
  });
  const element = document.createElement("showcart-desk") as Panel;
  element.desk = desk;
  element.addEventListener("showcart-leave", () => {
    // A token that is not taken, or for this show alone, opens no other one.
    const isOver = desk?.show.connection.get().status === "closed" || claimsOf(token).show !== null;
    if (isOver) forget();
    else keep({ ...session, show: null });
    door(isOver ? null : { ...session, show: null });
  });
  element.addEventListener("showcart-theme", (event) => {
    write("localStorage", THEME, (event as CustomEvent<string>).detail);
  });
  document.body.replaceChildren(element);
}

const theme = read("localStorage", THEME);
if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
addEventListener("hashchange", () => location.reload());
const session = arrive();
if (session?.show == null) door(session);
else enter(session);
