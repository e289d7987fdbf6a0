import { RefusedError, type ShowId } from "@showcart/sdk";
import { css, html, LitElement, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { dayAndTime } from "../design/moments.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import { Api, type DeskShow } from "./api.js";
import { worksAtDesk } from "./desk.js";
import { parts } from "./desk.styles.js";
import { claimsOf } from "../design/claims.js";
import type { Session } from "./session.js";

/** The way in: a token, then a show from the list, or a new one. `showcart-enter` brings the session. */
export class Door extends LitElement {
  static override properties = {
    server: {},
    session: { attribute: false },
    shows: { state: true },
    problem: { state: true },
    busy: { state: true },
    all: { state: true },
  };
  static override styles = [
    base,
    controls,
    parts,
    css`
      :host { max-width: 40rem; margin: 0 auto; padding: 8vh var(--sc-6) var(--sc-8); font-size: var(--sc-size-2); --desk-touch: 44px; }
      main { display: grid; gap: var(--sc-4); }
      h1 { font-size: var(--sc-size-6); font-weight: 800; letter-spacing: -0.035em; }
      h2 { font-size: var(--sc-size-4); letter-spacing: -0.02em; }
      form { display: grid; gap: var(--sc-3); }
      .fields { display: flex; flex-wrap: wrap; gap: var(--sc-3); align-items: end; }
      .fields .wide { flex: 1 1 240px; }
      .fields .narrow { flex: 0 0 96px; }
      .button { font-size: var(--sc-size-2); justify-self: start; }
      ul { border-top: 1px solid var(--sc-line-strong); }
      li button {
        display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 2px var(--sc-3); align-items: center; width: 100%; min-height: 60px; padding: var(--sc-2) var(--sc-1); border: 0;
        border-bottom: 1px solid var(--sc-line); background: none; text-align: left; cursor: pointer;
      }
      li button:hover { background: var(--sc-sunk); }
      .title { font-size: var(--sc-size-3); font-weight: 700; overflow-wrap: anywhere; }
      .when { color: var(--sc-quiet); font-size: var(--sc-size-1); grid-row: 2; }
      li .badge { grid-row: 1 / 3; grid-column: 2; }
      section { display: grid; gap: var(--sc-3); padding-top: var(--sc-6); }
      .note { font-size: var(--sc-size-2); }
    `,
  ];
  declare server: string;
  declare session: Session | null;
  declare shows: readonly DeskShow[] | null;
  declare problem: string | null;
  declare busy: boolean;
  declare all: boolean;

  constructor() {
    super();
    this.server = location.origin;
    this.session = null;
    this.shows = null;
    this.problem = null;
    this.busy = false;
    this.all = false;
  }

  protected override firstUpdated(): void {
    const said = this.problem;
    // Looking for shows says nothing about why one is here again.
    if (this.session !== null) void this.#look(this.session).then(() => (this.problem ??= said));
    else this.renderRoot.querySelector("input")?.focus();
  }

  protected override render(): TemplateResult {
    return html`<main>
      <h1>${texts.door.title}</h1>
      ${this.problem === null ? nothing : html`<p class="note bad" role="alert">${this.problem}</p>`}
      ${this.session === null || this.shows === null ? this.#signIn() : this.#choose(this.session, this.shows)}
    </main>`;
  }

  #signIn(): TemplateResult {
    return html`<p>${texts.door.help}</p>
      <form @submit=${(event: SubmitEvent) => {
        event.preventDefault();
        const token = String(new FormData(event.currentTarget as HTMLFormElement).get("token") ?? "").trim();
        void this.#look({ server: this.server, token, show: null });
      }}>
        <label>${texts.door.token}<input name="token" type="password" required autocomplete="off" spellcheck="false" /></label>
        <button class="button money" aria-disabled=${this.busy}>${this.busy ? texts.door.looking : texts.door.enter}</button>
      </form>`;
  }

  /** What the token opens: the shows, or the one show that it is for. */
  async #look(session: Session): Promise<void> {
    const { role, show } = claimsOf(session.token);
    if (role === null || !worksAtDesk(role)) {
      this.problem = role === null ? texts.door.noToken : texts.door.notDesk;
      return;
    }
    if (session.show !== null || show !== null) return this.#enter(session, session.show ?? (show as ShowId));
    await this.#try(async () => {
      const api = new Api(session.server, session.token);
      const shows: DeskShow[] = [];
      for (let cursor: string | undefined; ;) {
        const { items, next_cursor } = await api.shows(cursor);
        shows.push(...items);
        if (next_cursor === undefined) break;
        cursor = next_cursor;
      }
      const rank = { live: 0, scheduled: 1, ended: 2 };
      this.shows = shows.sort((one, other) => rank[one.state] - rank[other.state] || other.created_at - one.created_at);
      this.session = session;
      this.dispatchEvent(new CustomEvent("showcart-signed-in", { detail: session }));
    });
  }

  #choose(session: Session, shows: readonly DeskShow[]): TemplateResult {
    const shown = this.all ? shows : shows.filter((it) => it.state !== "ended");
    return html`
      <div class="row"><p class="grow quiet">${texts.door.signedInAs(claimsOf(session.token).sub)}</p>
        <button class="button bare" @click=${() => this.dispatchEvent(new Event("showcart-sign-out"))}>${texts.door.signOut}</button></div>
      <section>
        <h2>${texts.door.choose}</h2>
        ${shown.length === 0 ? html`<p class="quiet">${texts.door.none}</p>` : nothing}
        <ul>${repeat(
          shown,
          (it) => it.show_id,
          (it) => html`<li><button @click=${() => this.#enter(session, it.show_id)}>
          <span class="title">${it.title}</span><span class="when">${dayAndTime(it.started_at ?? it.scheduled_at ?? it.created_at)}</span>
          <span class="badge ${it.state === "live" ? "on-air" : ""}">${texts.state[it.state]}</span></button></li>`,
        )}</ul>
        ${shown.length < shows.length ? html`<button class="button" @click=${() => (this.all = true)}>${texts.door.unfinished}</button>` : nothing}
      </section>
      <section>
        <h2>${texts.door.make}</h2>
        <form @submit=${(event: SubmitEvent) => this.#make(event, session)}>
          <div class="fields">
            <label class="wide">${texts.door.name}<input name="title" maxlength="200" required autocomplete="off" /></label>
            <label class="narrow">${texts.door.currency}<input name="currency" value="EUR" pattern="[A-Za-z]{3}" required autocomplete="off" /></label>
          </div>
          <label class="check"><input type="checkbox" name="guests" checked />${texts.door.guestsVote}</label>
          <label class="check"><input type="checkbox" name="test" />${texts.door.test}</label>
          <button class="button" aria-disabled=${this.busy}>${texts.door.create}</button>
        </form>
      </section>`;
  }

  #make(event: SubmitEvent, session: Session): void {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    void this.#try(async () => {
      const made = await new Api(session.server, session.token).makeShow({
        title: String(data.get("title")),
        currency: String(data.get("currency")).toUpperCase(),
        guests_vote: data.has("guests"),
        test: data.has("test"),
      });
      this.#enter(session, made.show_id);
    });
  }

  #enter(session: Session, show: ShowId): void {
    this.dispatchEvent(new CustomEvent("showcart-enter", { detail: { ...session, show } }));
  }

  async #try(run: () => Promise<void>): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    this.problem = null;
    try {
      await run();
    } catch (error) {
      const isForOneShow = error instanceof RefusedError && error.problem.status === 403;
      this.problem = isForOneShow
        ? texts.door.oneShow
        : error instanceof RefusedError
          ? error.problem.detail
          : texts.said.network;
    } finally {
      this.busy = false;
    }
  }
}
customElements.define("showcart-desk-door", Door);
