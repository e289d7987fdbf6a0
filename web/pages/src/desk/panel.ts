import type { Action, Observable, Unsubscribe } from "@showcart/sdk";
import { css, html, nothing, type TemplateResult } from "lit";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import { icons } from "../viewer/icons.js";
import "./air.js";
import "./compose.js";
import type { Compose, Tab } from "./compose.js";
import { listed } from "./desk.js";
import { parts } from "./desk.styles.js";
import "./figures.js";
import { deepest } from "./focus.js";
import "./head.js";
import type { Head } from "./head.js";
import { read, write } from "../design/kept.js";
import "./lineup.js";
import type { Lineup } from "./lineup.js";
import { spoken } from "./log.js";
import "./notes.js";
import "./orders.js";
import { Part } from "./part.js";
import "./problems.js";
import { claimsOf } from "../design/claims.js";

type View = "air" | "lineup" | "compose" | "side";
const VIEWS: readonly View[] = ["air", "lineup", "compose", "side"];
const FORMS: Readonly<Record<string, Tab>> = { s: "sale", b: "banner", t: "timer", q: "poll", a: "units" };
/** The red switch's key is held for so long. */
const HOLD_MS = 900;
const SINGLE = "showcart:desk-keys";

/**
 * The control panel of one show. Columns from left to right: what is on air; what can be brought on air; what comes of it. Chat and
 * questions will stand in the last column as sections of their own, a script above the line-up: the columns take any number of
 * sections, and each scrolls by itself.
 */
export class Panel extends Part {
  static override properties = { view: { reflect: true }, theme: { state: true }, singleKeys: { state: true } };
  static override styles = [
    base,
    controls,
    parts,
    css`
      :host { display: grid; grid-template: auto auto minmax(0, 1fr) / minmax(0, 1fr); height: 100dvh; background: var(--sc-ground); }
      .signal { border-block: 1px solid var(--sc-line); background: var(--sc-sunk); display: grid; grid-template-columns: minmax(0, 1fr) auto auto; align-items: center; }
      .tools { display: flex; align-items: center; padding-right: var(--sc-2); }
      .tools .button { min-height: 32px; }
      .columns { display: grid; grid-template-columns: minmax(348px, 27fr) minmax(440px, 43fr) minmax(300px, 30fr); min-height: 0; }
      .column { display: grid; grid-auto-rows: minmax(0, auto); min-height: 0; min-width: 0; }
      .column + .column { border-left: 1px solid var(--sc-line-strong); }
      .column.air { grid-template-rows: minmax(0, 1fr); border-top: 4px solid var(--sc-ink); }
      :host([data-live]) .column.air { border-top-color: var(--sc-signal-fill); }
      .column.make { grid-template-rows: minmax(120px, 1fr) auto; border-top: 4px solid transparent; }
      .column.side { grid-template-rows: auto minmax(0, 3fr) minmax(0, 2fr); border-top: 4px solid transparent; }
      section { display: grid; grid-template-rows: auto minmax(0, 1fr); min-height: 0; min-width: 0; }
      section + section { border-top: 1px solid var(--sc-line-strong); }
      section:focus { outline: none; }
      section:focus-visible { outline: 2px solid var(--sc-ink); outline-offset: -2px; }
      h2 { display: flex; align-items: center; justify-content: space-between; min-height: 34px; padding: 4px var(--sc-4); border-bottom: 1px solid var(--sc-line); font-size: var(--sc-size-2); letter-spacing: -0.01em; }
      h2 .hint { font-size: 0.75rem; font-weight: 400; color: var(--sc-quiet); }
      .body { overflow-y: auto; overflow-x: hidden; scrollbar-width: thin; min-height: 0; }
      .compose { grid-template-rows: minmax(0, 1fr); }
      .compose .body { height: 264px; }
      .signal .note { padding-block: 4px; background: var(--sc-card); }
      nav { display: none; }

      dialog {
        width: min(560px, calc(100% - 32px)); max-height: calc(100dvh - 64px); padding: 0 var(--sc-6) var(--sc-6); overflow: auto; background: var(--sc-ground); color: var(--sc-ink);
        border: 1px solid var(--sc-line-strong); border-top: 4px solid var(--sc-ink);
      }
      dialog::backdrop { background: rgb(20 19 15 / 0.55); }
      dialog > header { display: flex; align-items: center; justify-content: space-between; padding: var(--sc-3) 0; }
      dialog h2 { border: 0; padding: 0; font-size: var(--sc-size-4); }
      dialog dl { display: grid; grid-template-columns: auto 1fr; gap: 6px var(--sc-4); font-size: var(--sc-size-2); align-items: baseline; }
      dialog dt { text-align: right; white-space: nowrap; }
      dialog .check { margin-top: var(--sc-4); font-size: var(--sc-size-2); }

      @media (max-width: 1079px) {
        :host { height: auto; min-height: 100dvh; grid-template: auto / minmax(0, 1fr); align-content: start; }
        .top { position: sticky; top: 0; z-index: 3; background: var(--sc-ground); }
        .columns { grid-template-columns: 348px minmax(0, 1fr); }
        .column.side { grid-column: 1 / -1; grid-template: auto minmax(0, 320px) / 1fr 1fr; border-left: 0; border-top: 1px solid var(--sc-line-strong); }
        .column.side > :first-child { grid-column: 1 / -1; }
        .column.side > :last-child { border-left: 1px solid var(--sc-line-strong); }
        .body { overflow: visible; }
        .column.side .body { overflow-y: auto; }
        .column.make { grid-template-rows: auto auto 1fr; }
        .compose .body { height: auto; min-height: 264px; }
      }
      @media (max-width: 699px) {
        :host { padding-bottom: 56px; --desk-touch: 44px; }
        .columns { display: block; }
        .column, .column.side { display: block; border: 0; }
        .column + .column { border-left: 0; }
        section { display: none; border: 0; }
        :host([view="air"]) section.air, :host([view="lineup"]) section.lineup, :host([view="compose"]) section.compose, :host([view="side"]) section.side { display: block; }
        .column.side > :last-child { border-left: 0; }
        section + section { border-top: 1px solid var(--sc-line); }
        .hint, .key { display: none; }
        .signal { grid-template-columns: minmax(0, 1fr); }
        .tools { display: flex; justify-content: space-between; }
        nav {
          position: fixed; inset: auto 0 0; z-index: 4; display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; background: var(--sc-ground); border-top: 1px solid var(--sc-line-strong);
          padding-bottom: env(safe-area-inset-bottom);
        }
        nav button { min-height: 54px; border: 0; border-top: 4px solid transparent; background: none; font-weight: 700; font-size: var(--sc-size-1); color: var(--sc-quiet); }
        nav button[aria-current="true"] { color: var(--sc-ink); border-top-color: var(--sc-ink); }
      }
    `,
  ];
  declare view: View;
  declare theme: "light" | "dark";
  declare singleKeys: boolean;
  /** When the red switch's key went down. */
  #held: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    super();
    this.view = "air";
    this.theme =
      document.documentElement.dataset["theme"] === "dark" ||
      (document.documentElement.dataset["theme"] === undefined && matchMedia("(prefers-color-scheme: dark)").matches)
        ? "dark"
        : "light";
    this.singleKeys = read("localStorage", SINGLE) !== "off";
  }

  protected sources(): readonly Observable<unknown>[] {
    const { show, role, notes, voice } = this.desk;
    return [show.part("show"), role, notes, voice];
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#unheard = this.desk.show.gauge("action").subscribe(this.#acted);
    addEventListener("keydown", this.#down);
    addEventListener("keyup", this.#up);
  }

  /** What others do is told; what one does oneself is seen. */
  readonly #acted = (action: Action | undefined): void => {
    const isNews = action !== undefined && this.#latest !== undefined;
    this.#latest = action;
    if (isNews && action.by !== claimsOf(this.desk.api.token).sub) this.desk.say(spoken(this.desk, action));
  };
  #latest: Action | undefined;
  #unheard: Unsubscribe = () => {};

  override disconnectedCallback(): void {
    this.#unheard();
    removeEventListener("keydown", this.#down);
    removeEventListener("keyup", this.#up);
    clearTimeout(this.#held);
    super.disconnectedCallback();
  }

  protected override render(): TemplateResult {
    const { desk } = this;
    this.toggleAttribute("data-live", desk.isLive);
    const canMake = desk.canStage && desk.show.scene.get()?.show.state !== "ended";
    return html`
      <div class="top" data-home tabindex="-1">
        <showcart-desk-head .desk=${desk}></showcart-desk-head>
        <showcart-desk-notes .desk=${desk} ?elsewhere=${this.view !== "air"}></showcart-desk-notes>
      </div>
      <div class="signal" data-home tabindex="-1">
        <showcart-desk-signal .desk=${desk} @showcart-problems=${() => this.#dialog("problems")?.showModal()}></showcart-desk-signal>
        <div>${this.note("show")}${this.note("red")}</div>
        <div class="tools">
          <button class="button bare" @click=${() => this.#dialog("keys")?.showModal()}>${texts.top.keys} <kbd aria-hidden="true" class="key">?</kbd></button>
          <button class="button bare icon" aria-label=${this.theme === "dark" ? texts.top.toLight : texts.top.toDark} @click=${() => this.#turn()}>${this.theme === "dark" ? icons.light : icons.dark}</button>
          <button class="button bare" @click=${() => this.dispatchEvent(new Event("showcart-leave"))}>${claimsOf(this.desk.api.token).show === null ? texts.top.leave : texts.door.signOut}</button>
        </div>
      </div>
      <main class="columns">
        <div class="column air">
          <section class="air" data-home tabindex="-1" aria-labelledby="h-air">
            <h2 id="h-air">${texts.air.title}</h2>
            <div class="body"><showcart-desk-air .desk=${desk}></showcart-desk-air></div>
          </section>
        </div>
        <div class="column make" @showcart-compose=${(event: CustomEvent<Tab>) => void this.#write(event.detail)}>
          <section class="lineup" data-home tabindex="-1" aria-labelledby="h-lineup">
            <h2 id="h-lineup">${texts.lineup.title} <span class="hint">${texts.lineup.hint}</span></h2>
            <div class="body"><showcart-desk-lineup .desk=${desk}></showcart-desk-lineup></div>
          </section>
          ${
            canMake
              ? html`<section class="compose" data-home tabindex="-1" aria-label=${texts.compose.title}><div class="body"><showcart-desk-compose .desk=${desk}></showcart-desk-compose></div></section>`
              : nothing
          }
        </div>
        <div class="column side">
          <section class="side" aria-label=${texts.figures.title}><showcart-desk-figures .desk=${desk}></showcart-desk-figures></section>
          <section class="side orders" data-home tabindex="-1" aria-labelledby="h-orders">
            <h2 id="h-orders">${texts.orders.title}</h2>
            <div class="body"><showcart-desk-orders .desk=${desk}></showcart-desk-orders></div>
          </section>
          <section class="side log" data-home tabindex="-1" aria-labelledby="h-log">
            <h2 id="h-log">${texts.log.title}</h2>
            <div class="body" tabindex="0" role="region" aria-labelledby="h-log"><showcart-desk-log .desk=${desk}></showcart-desk-log></div>
          </section>
        </div>
      </main>
      <nav aria-label=${texts.page}>
        ${VIEWS.filter((it) => it !== "compose" || canMake).map((it) => html`<button aria-current=${it === this.view} @click=${() => this.#look(it)}>${texts.nav[it]}</button>`)}
      </nav>
      <p class="spoken" id="voice" role="status">${desk.voice.get()}</p>
      ${this.#keys()}
      <dialog id="problems" aria-labelledby="h-problems" data-home tabindex="-1">
        <header><h2 id="h-problems">${texts.problems.title}</h2><button class="button icon bare" aria-label=${texts.keys.close} @click=${() => this.#dialog("problems")?.close()}>${icons.close}</button></header>
        <showcart-desk-problems .desk=${desk} @showcart-leave=${() => this.dispatchEvent(new Event("showcart-leave"))}></showcart-desk-problems>
      </dialog>`;
  }

  #keys(): TemplateResult {
    const { list } = texts.keys;
    const all: readonly (readonly [keys: readonly string[], text: string, isOffered: boolean])[] = [
      [["1", "9"], list.pin, this.desk.canStage],
      [["U"], list.unpin, this.desk.canStage],
      [["↑", "↓"], list.choose, true],
      [["P"], list.pinChosen, this.desk.canStage],
      [["S"], list.sale, this.desk.canSell],
      [["A"], list.units, this.desk.canSell],
      [["B"], list.banner, this.desk.canStage],
      [["T"], list.timer, this.desk.canStage],
      [["Q"], list.poll, this.desk.canStage],
      [["C"], list.closePoll, this.desk.canStage],
      [["O"], list.orders, true],
      [["W"], list.problems, true],
      [["X"], list.red, this.desk.canSell],
      [["Esc"], list.leave, true],
      [["?"], list.help, true],
    ];
    return html`<dialog id="keys" aria-labelledby="h-keys">
      <header><h2 id="h-keys">${texts.keys.title}</h2><button class="button icon bare" aria-label=${texts.keys.close} @click=${() => this.#dialog("keys")?.close()}>${icons.close}</button></header>
      <dl>${all.filter(([, , isOffered]) => isOffered).map(([keys, text]) => html`<dt>${keys.map((it, index) => html`${index > 0 && keys[0] === "1" ? " – " : " "}<kbd>${it}</kbd>`)}</dt><dd>${text}</dd>`)}</dl>
      <label class="check"><input type="checkbox" .checked=${this.singleKeys} @change=${(event: Event) => this.#setSingleKeys((event.target as HTMLInputElement).checked)} />${texts.keys.single}</label>
      <p class="quiet">${texts.keys.singleHelp}</p>
    </dialog>`;
  }

  #dialog(id: "keys" | "problems"): HTMLDialogElement | null {
    return this.renderRoot.querySelector<HTMLDialogElement>(`dialog#${id}`);
  }

  #turn(): void {
    this.theme = this.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset["theme"] = this.theme;
    this.dispatchEvent(new CustomEvent("showcart-theme", { detail: this.theme }));
  }

  #setSingleKeys(on: boolean): void {
    this.singleKeys = on;
    write("localStorage", SINGLE, on ? "on" : "off");
  }

  #look(view: View): void {
    this.view = view;
    scrollTo({ top: 0 });
  }

  async #write(tab: Tab): Promise<void> {
    this.view = "compose";
    await this.updateComplete;
    await this.renderRoot.querySelector<Compose>("showcart-desk-compose")?.open(tab);
  }

  // ---- Keys ----------------------------------------------------------------------------------------------------------

  readonly #down = (event: KeyboardEvent): void => {
    const target = event.composedPath()[0];
    const isWriting =
      target instanceof HTMLElement &&
      /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) &&
      (target as HTMLInputElement).type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape" && isWriting) return this.#leave(target);
    if (isWriting || !this.singleKeys || this.#dialog("keys")?.open === true || this.#dialog("problems")?.open === true)
      return;
    const key = event.key.toLowerCase();
    if (key === "x") {
      event.preventDefault();
      if (!event.repeat) this.#red();
      return;
    }
    if (event.repeat || !this.#command(key)) return;
    event.preventDefault();
  };

  readonly #up = (event: KeyboardEvent): void => {
    if (event.key.toLowerCase() === "x") clearTimeout(this.#held);
  };

  /** Does what a key stands for; says whether it stands for anything. */
  #command(key: string): boolean {
    const { desk } = this;
    const form = FORMS[key];
    if (form !== undefined) {
      if (this.renderRoot.querySelector<Compose>("showcart-desk-compose")?.tabs().includes(form) !== true) return false;
      void this.#write(form);
      return true;
    }
    const scene = desk.show.scene.get();
    if (/^[1-9]$/.test(key)) {
      const product = scene === null ? undefined : listed(scene)[Number(key) - 1];
      if (product !== undefined) void desk.togglePin(product);
      return product !== undefined;
    }
    switch (key) {
      case "u":
        void desk.unpin();
        return true;
      case "p": {
        const chosen = desk.chosen.get();
        if (chosen !== null) void desk.togglePin(chosen);
        return true;
      }
      case "c": {
        const poll = Object.values(scene?.polls ?? {})[0];
        if (poll !== undefined && desk.canStage) void desk.closePoll(poll.poll_id);
        return true;
      }
      case "o":
        this.#look("side");
        void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>("section.orders")?.focus());
        return true;
      case "w":
        this.#dialog("problems")?.showModal();
        return true;
      case "?":
        this.#dialog("keys")?.showModal();
        return true;
      case "arrowdown":
      case "arrowup": {
        // Where the arrows scroll or move a choice, they go on doing so.
        if (deepest()?.closest("[role=tablist]") != null || deepest()?.matches(".body, section:not(.lineup)") === true) return false;
        this.renderRoot.querySelector<Lineup>("showcart-desk-lineup")?.move(key === "arrowdown" ? 1 : -1);
        return true;
      }
      default:
        return false;
    }
  }

  #red(): void {
    const red = this.renderRoot.querySelector<Head>("showcart-desk-head")?.red;
    if (red == null) return;
    red.press();
    clearTimeout(this.#held);
    if (red.armed) this.#held = setTimeout(() => red.armed && red.fire(), HOLD_MS);
  }

  /** Out of a field, so that keys are commands again. */
  #leave(field: HTMLElement): void {
    field.blur();
    const home = this.renderRoot.querySelector<HTMLElement>(".columns section.lineup");
    home?.focus({ preventScroll: true });
  }
}
customElements.define("showcart-desk", Panel);
