import { css, html, LitElement, svg, type PropertyValues, type TemplateResult } from "lit";
import { base } from "./styles.js";

/** A product's picture; while there is none, and when it cannot be loaded, a drawn one. */
export class Picture extends LitElement {
  static override properties = { src: {}, failed: { state: true } };
  static override styles = [
    base,
    css`
      :host { display: block; aspect-ratio: 1; overflow: hidden; background: var(--sc-sunk); color: var(--sc-line-strong); }
      img, svg { width: 100%; height: 100%; }
      img { object-fit: cover; }
    `,
  ];
  declare src: string | null;
  declare failed: boolean;

  constructor() {
    super();
    this.src = null;
    this.failed = false;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("src")) this.failed = false;
  }

  protected override render(): TemplateResult {
    const src = pictureAddress(this.src);
    if (src === null || this.failed) return html`${drawn}`;
    // The title stands beside it.
    return html`<img alt="" src=${src} decoding="async" referrerpolicy="no-referrer" @error=${() => (this.failed = true)} />`;
  }
}
customElements.define("showcart-picture", Picture);

/** The address when it is one of a picture on the web; whatever else a catalogue says is no picture. */
export function pictureAddress(text: string | null): string | null {
  if (text === null) return null;
  try {
    const { protocol, href } = new URL(text);
    return protocol === "https:" || protocol === "http:" ? href : null;
  } catch {
    return null;
  }
}

/** A tag on a string. */
const drawn = svg`<svg viewBox="0 0 64 64" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round" aria-hidden="true">
  <path d="M20 46V27l12-10 12 10v19z"/><circle cx="32" cy="26" r="2.5"/><path d="M32 23.500c0-6 2.500-9 8-10.500M26 35h12M26 39.500h8"/>
</svg>`;
