import type { Observable, ProductId } from "@showcart/sdk";
import { css, html, nothing, type TemplateResult } from "lit";
import { isolated } from "../design/bidi.js";
import { count } from "../design/format.js";
import { minorOf } from "../design/moments.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { NewBanner, NewSale } from "./api.js";
import { allOf, fullName, listed } from "./desk.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";

export type Tab = "sale" | "banner" | "timer" | "poll" | "units" | "video";
const TABS: readonly Tab[] = ["sale", "banner", "timer", "poll", "units", "video"];
const KEYS: Readonly<Record<Tab, string>> = { sale: "S", banner: "B", timer: "T", poll: "Q", units: "A", video: "" };

/** What a host makes: one form at a time, at a place that stays. */
export class Compose extends Part {
  static override properties = { tab: {}, by: { state: true } };
  static override styles = [
    base,
    controls,
    parts,
    css`
      :host { display: grid; grid-template-rows: auto minmax(0, 1fr); }
      .tabs { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--sc-line); padding: 0 var(--sc-2); }
      .tabs button {
        display: flex; align-items: center; gap: 6px; min-height: 40px; padding: 0 10px; border: 0; border-bottom: 3px solid transparent; background: none; font-weight: 700;
        color: var(--sc-quiet); cursor: pointer;
      }
      .tabs button[aria-selected="true"] { color: var(--sc-ink); border-bottom-color: var(--sc-ink); }
      .tabs button:focus-visible { outline-offset: -3px; }
      form { display: grid; gap: var(--sc-2); padding: var(--sc-3) var(--sc-4); align-content: start; }
      .fields { display: flex; flex-wrap: wrap; gap: var(--sc-2); align-items: end; }
      .fields > label { flex: 1 1 84px; }
      .fields > .wide { flex: 3 1 180px; min-width: 0; }
      .fields > label.narrow { flex: 0 1 96px; }
      .send { margin-top: 2px; }
      .product { font-size: var(--sc-size-2); font-weight: 700; }
      textarea { height: 100px; }
      .beside { display: grid; grid-template-columns: minmax(0, 1fr) 150px; gap: var(--sc-2); }
      .beside > div { display: grid; gap: var(--sc-2); align-content: end; }
      @media (max-width: 699px) { .fields > label { flex-basis: 40%; } .fields > .send { flex: 1 1 40%; } }
      form + form { border-top: 1px solid var(--sc-line); }
    `,
  ];
  declare tab: Tab;
  declare by: "price" | "percent";

  constructor() {
    super();
    this.tab = "sale";
    this.by = "price";
  }

  protected sources(): readonly Observable<unknown>[] {
    const { show, chosen, notes, busy, role, about } = this.desk;
    return [show.part("lineup"), show.part("show"), chosen, notes, busy, role, about];
  }

  /** The forms that this role may send. */
  tabs(): readonly Tab[] {
    return this.desk.canSell ? TABS : this.desk.canStage ? TABS.filter((it) => it !== "sale" && it !== "units") : [];
  }

  /** Shows a form and goes to its first field. */
  async open(tab: Tab): Promise<void> {
    if (!this.tabs().includes(tab)) return;
    this.tab = tab;
    await this.updateComplete;
    const field = this.renderRoot.querySelector<HTMLElement>(
      "form input:not([type=checkbox]), form textarea, form select",
    );
    field?.focus();
    if (field instanceof HTMLInputElement) field.select();
    this.scrollIntoView({ block: "nearest" });
  }

  protected override render(): TemplateResult {
    const tabs = this.tabs();
    const tab = tabs.includes(this.tab) ? this.tab : tabs[0];
    if (tab === undefined) return html``;
    const forms: Readonly<Record<Tab, () => TemplateResult>> = {
      sale: () => this.#sale(),
      banner: () => this.#banner(),
      timer: () => this.#timer(),
      poll: () => this.#poll(),
      units: () => this.#units(),
      video: () => this.#video(),
    };
    return html`
      <div class="tabs" role="tablist" aria-label=${texts.compose.title} @keydown=${(event: KeyboardEvent) => this.#step(event, tabs, tab)}>
        ${tabs.map(
          (
            it,
          ) => html`<button role="tab" id="tab-${it}" type="button" aria-controls="form" aria-selected=${it === tab} tabindex=${it === tab ? 0 : -1} @click=${() => (this.tab = it)}>
          ${texts.compose.tabs[it]}${KEYS[it] === "" ? nothing : html`<kbd aria-hidden="true">${KEYS[it]}</kbd>`}</button>`,
        )}
      </div>
      <div id="form" role="tabpanel" aria-labelledby="tab-${tab}">${forms[tab]()}</div>`;
  }

  #step(event: KeyboardEvent, tabs: readonly Tab[], tab: Tab): void {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const next = tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length];
    if (by === 0 || next === undefined) return;
    event.preventDefault();
    this.tab = next;
    void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(`#tab-${next}`)?.focus());
  }

  #sale(): TemplateResult {
    const { desk } = this;
    const product = this.#chosen();
    if (product === null) return html`<form><p class="quiet">${texts.compose.noProduct}</p></form>`;
    const units = desk.show.gauge(`stock:${product.product_id}`).get();
    return html`<form @submit=${(event: SubmitEvent) => this.#sell(event, product.product_id)}>
      ${this.#products()}
      <div class="fields">
        <label>${texts.compose.priceBy}<select .value=${this.by} @change=${(event: Event) => (this.by = (event.target as HTMLSelectElement).value === "price" ? "price" : "percent")}>
          <option value="price">${texts.compose.price}</option><option value="percent">${texts.compose.percent}</option></select></label>
        ${
          this.by === "price"
            ? html`<label>${texts.compose.priceIn(desk.currency)}<input name="price" inputmode="decimal" required autocomplete="off" /></label>`
            : html`<label>${texts.compose.percentOff}<input name="percent" type="number" min="1" max="99" required /></label>`
        }
        <label>${texts.compose.cap}<input name="cap" type="number" min="1" required placeholder=${units?.left ?? ""} /></label>
        <label>${texts.compose.perBuyer}<input name="each" type="number" min="1" value="1" required /></label>
      </div>
      <div class="fields">
        <label>${texts.compose.startIn}<input name="start" type="number" min="0" value="0" required /></label>
        <label>${texts.compose.lasts}<input name="lasts" type="number" min="1" placeholder=${texts.compose.untilEnded} /></label>
        ${this.#send("compose:sale", texts.compose.startSale)}
      </div>
      ${this.note("compose:sale")}
    </form>`;
  }

  #products(): TemplateResult {
    const { desk } = this;
    const scene = desk.show.scene.get();
    const products = scene === null ? [] : listed(scene);
    return html`<label>${texts.compose.product}<select @change=${(event: Event) => desk.chosen.set((event.target as HTMLSelectElement).value as ProductId)}>
      ${products.map((it) => html`<option value=${it} .selected=${it === desk.chosen.get()}>${desk.nameOf(it)}</option>`)}</select></label>`;
  }

  #chosen() {
    const id = this.desk.chosen.get();
    return id === null ? null : (this.desk.show.scene.get()?.lineup[id]?.product ?? null);
  }

  #sell(event: SubmitEvent, product_id: ProductId): void {
    const { form, fields } = opened(event);
    const { desk } = this;
    const price_minor = this.by === "price" ? minorOf(fields("price"), desk.currency) : null;
    if (this.by === "price" && price_minor === null)
      return desk.note("compose:sale", { tone: "bad", text: texts.compose.priceWrong });
    const start = Number(fields("start"));
    const sale: NewSale = {
      product_id,
      ...(price_minor === null ? { percent_off: Number(fields("percent")) } : { price_minor }),
      cap: Number(fields("cap")),
      limit_per_buyer: Number(fields("each")),
      ...(start > 0 ? { starts_at: desk.now() + start * 1_000 } : {}),
      ...(fields("lasts") === "" ? {} : { duration_ms: Number(fields("lasts")) * 1_000 }),
    };
    const name = isolated(desk.nameOf(product_id));
    void this.#do(
      "compose:sale",
      form,
      () => desk.at.sell(sale),
      start > 0 ? texts.compose.done.armed(name) : texts.compose.done.sale(name),
    );
  }

  #banner(): TemplateResult {
    const { desk } = this;
    return html`<form @submit=${(event: SubmitEvent) => {
      const { form, fields } = opened(event);
      const banner: NewBanner = {
        text: fields("text"),
        style: fields("style") as NewBanner["style"],
        ...(fields("link") === "" ? {} : { link: fields("link") }),
        ...(fields("lasts") === "" ? {} : { duration_ms: Number(fields("lasts")) * 1_000 }),
      };
      void this.#do("compose:banner", form, () => desk.at.showBanner(banner), texts.compose.done.banner);
    }}>
      <label>${texts.compose.bannerText}<input name="text" maxlength="300" required autocomplete="off" /></label>
      <div class="fields">
        <label>${texts.compose.bannerStyle}<select name="style">${(["info", "highlight", "urgent"] as const).map((it) => html`<option value=${it}>${texts.compose.styles[it]}</option>`)}</select></label>
        <label class="wide">${texts.compose.link}<input name="link" type="url" pattern="https://.+" autocomplete="off" /></label>
        <label>${texts.compose.lasts}<input name="lasts" type="number" min="1" placeholder=${texts.compose.untilEnded} /></label>
      </div>
      <div class="row">${this.#send("compose:banner", texts.compose.show)}</div>
      ${this.note("compose:banner")}
    </form>`;
  }

  #timer(): TemplateResult {
    const { desk } = this;
    return html`<form @submit=${(event: SubmitEvent) => {
      const { form, fields } = opened(event);
      void this.#do(
        "compose:timer",
        form,
        () => desk.at.startTimer(fields("label"), Number(fields("lasts")) * 1_000),
        texts.compose.done.timer,
      );
    }}>
      <label>${texts.compose.timerLabel}<input name="label" maxlength="100" required autocomplete="off" /></label>
      <div class="fields">
        <label class="narrow">${texts.compose.lasts}<input name="lasts" type="number" min="1" value="60" required /></label>
        ${this.#send("compose:timer", texts.compose.startTimer)}
      </div>
      ${this.note("compose:timer")}
    </form>`;
  }

  #poll(): TemplateResult {
    const { desk } = this;
    return html`<form @submit=${(event: SubmitEvent) => {
      const { form, fields } = opened(event);
      const choices = fields("choices")
        .split("\n")
        .map((it) => it.trim())
        .filter((it) => it !== "");
      const lasts = fields("lasts") === "" ? undefined : Number(fields("lasts")) * 1_000;
      void this.#do(
        "compose:poll",
        form,
        () => desk.at.openPoll(fields("question"), choices, lasts),
        texts.compose.done.poll,
      );
    }}>
      <label>${texts.compose.question}<input name="question" maxlength="200" required autocomplete="off" /></label>
      <div class="beside">
        <label>${texts.compose.choices}<textarea name="choices" required></textarea></label>
        <div><label>${texts.compose.lasts}<input name="lasts" type="number" min="1" placeholder=${texts.compose.untilEnded} /></label>${this.#send("compose:poll", texts.compose.openPoll)}</div>
      </div>
      ${this.note("compose:poll")}
    </form>`;
  }

  #units(): TemplateResult {
    const { desk } = this;
    const product = this.#chosen();
    const units = product === null ? undefined : desk.show.gauge(`stock:${product.product_id}`).get();
    const position = product === null ? 0 : (desk.show.scene.get()?.lineup[product.product_id]?.position ?? 0);
    return html`
      ${
        product === null
          ? nothing
          : html`<form @submit=${(event: SubmitEvent) => {
              const { form, fields } = opened(event);
              const all = Number(fields("units"));
              void this.#do(
                "compose:units",
                form,
                () => desk.at.list(product.product_id, all, position),
                texts.compose.done.units(isolated(fullName(product)), count(all)),
              );
            }}>
            <div class="fields">
              <div class="wide">${this.#products()}</div>
              <label class="narrow">${texts.compose.allocate}<input name="units" type="number" min="0" required placeholder=${units === undefined ? "" : allOf(units)} /></label>
              ${this.#send("compose:units", texts.compose.allocateDo)}
            </div>
            ${this.note("compose:units")}
          </form>`
      }
      <form @submit=${(event: SubmitEvent) => this.#add(event)}>
        <div class="fields">
          <label class="wide">${texts.compose.sku}<input name="sku" required autocomplete="off" spellcheck="false" /></label>
          <label class="narrow">${texts.compose.cap}<input name="units" type="number" min="0" value="0" required /></label>
          ${this.#send("compose:add", texts.compose.add)}
        </div>
        ${this.note("compose:add")}
      </form>`;
  }

  #add(event: SubmitEvent): void {
    const { form, fields } = opened(event);
    const { desk } = this;
    const scene = desk.show.scene.get();
    const last = Math.max(0, ...Object.values(scene?.lineup ?? {}).map((it) => it.position));
    const all = Number(fields("units"));
    void desk
      .run(
        "compose:add",
        async () => {
          const product = await desk.api.product(fields("sku").trim());
          const known = scene?.lineup[product.product_id];
          await desk.at.list(product.product_id, all, known?.position ?? last + 1);
          desk.chosen.set(product.product_id);
          return product;
        },
        { done: (product) => texts.compose.done.units(isolated(fullName(product)), count(all)) },
      )
      .then((isDone) => isDone && form.reset());
  }

  #video(): TemplateResult {
    const { desk } = this;
    return html`<form @submit=${(event: SubmitEvent) => {
      const { form, fields } = opened(event);
      const address = fields("video").trim();
      void this.#do(
        "compose:video",
        form,
        async () => desk.about.set(await desk.at.setVideo(address === "" ? null : address)),
        texts.compose.done.video,
        false,
      );
    }}>
      <label>${texts.compose.video}<input name="video" maxlength="2000" autocomplete="off" spellcheck="false" .value=${desk.about.get()?.video_url ?? ""} /></label>
      <p class="quiet">${texts.compose.videoHelp}</p>
      <div class="row">${this.#send("compose:video", texts.compose.videoDo)}</div>
      ${this.note("compose:video")}
    </form>`;
  }

  #send(place: string, label: string): TemplateResult {
    return html`<button class="button money send" aria-disabled=${this.isBusy(place)}>${label}</button>`;
  }

  async #do(
    place: string,
    form: HTMLFormElement,
    command: () => Promise<unknown>,
    done: string,
    isEmptied = true,
  ): Promise<void> {
    const isDone = await this.desk.run(place, command, { done: () => done });
    if (isDone && isEmptied) form.reset();
  }
}
customElements.define("showcart-desk-compose", Compose);

function opened(event: SubmitEvent): { form: HTMLFormElement; fields: (name: string) => string } {
  event.preventDefault();
  const form = event.currentTarget as HTMLFormElement;
  const data = new FormData(form);
  return { form, fields: (name) => String(data.get(name) ?? "") };
}
