import { desk as texts } from "./texts/desk.en.js";
import { Api } from "./desk/api.js";
import { Desk, worksAtDesk } from "./desk/desk.js";
import "./desk/door.js";
import type { Door } from "./desk/door.js";
import "./desk/panel.js";
import type { Panel } from "./desk/panel.js";
import { read, THEME, write } from "./design/kept.js";
import { claimsOf } from "./design/claims.js";
import { arrive, forget, keep, serverOf, type Session } from "./desk/session.js";

let desk: Desk | null = null;

/** Why a token does not open the control panel, as far as it says so itself; the server has the last word. */
function refusalOf(token: string): string | null {
  const { role } = claimsOf(token);
  if (role === null) return texts.door.noToken;
  return worksAtDesk(role) ? null : texts.door.notDesk;
}

/** The way in; with a session, behind the token. `said` is why somebody stands here again. */
function door(session: Session | null, said: string | null = null): void {
  desk?.close();
  desk = null;
  document.title = texts.page;
  const element = document.createElement("showcart-desk-door") as Door;
  element.server = session?.server ?? serverOf();
  element.session = session;
  element.problem = said;
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
  const refusal = refusalOf(token);
  if (refusal !== null) return turnAway(refusal);
  if (show === null) return door(session);
  keep(session);
  const entered = new Desk(new Api(session.server, token), show);
  desk = entered;
  // Whom the server does not let in has seen nothing yet; who is put out later keeps what is on the page, and is told so there.
  desk.show.connection.subscribe((state) => {
    if (desk !== entered || entered.show.scene.get() !== null) return;
    if (state.status === "open" && !worksAtDesk(state.role)) turnAway(texts.door.notDesk);
    if (state.status !== "closed") return;
    const known: Readonly<Record<string, string>> = texts.problems.closed;
    const said = known[state.reason] ?? texts.problems.closed.other;
    if (state.reason !== "no_such_show" || claimsOf(token).show !== null) return turnAway(said);
    // The token is good for other shows.
    keep({ ...session, show: null });
    door({ ...session, show: null }, said);
  });
  if (desk !== entered) return;
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

function turnAway(said: string): void {
  forget();
  door(null, said);
}

const theme = read("localStorage", THEME);
if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
addEventListener("hashchange", () => location.reload());
const session = arrive();
if (session?.show == null) door(session);
else enter(session);
