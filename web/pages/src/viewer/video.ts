import type Hls from "hls.js";
import { css, html, LitElement, nothing, type PropertyValues, type TemplateResult } from "lit";
import { base, controls } from "../design/styles.js";
import { texts } from "../texts/en.js";
import { icons } from "./icons.js";

/** Safari's, which plays HLS by itself and knows the programme time. */
interface WithStartDate extends HTMLVideoElement {
  getStartDate?(): Date;
}

const RECOVERIES_MAX = 3;

/** What became of the stream. */
export type VideoState = "none" | "loading" | "playing" | "refused" | "failed";

/**
 * The stream: an HLS playlist or a file. Muted until the viewer wants sound, because browsers start nothing else by themselves.
 * `showcart-video` tells that `state` or `muted` changed.
 */
export class Video extends LitElement {
  static override properties = { src: {}, stopped: { type: Boolean }, state: { state: true }, muted: { state: true } };
  static override styles = [
    base,
    controls,
    css`
      :host { display: block; position: relative; background: var(--sc-over); overflow: hidden; }
      video { width: 100%; height: 100%; object-fit: var(--fit, cover); }
      .play {
        position: absolute; inset: 0; margin: auto; width: 72px; height: 72px; border-radius: 50%;
        background: var(--sc-over-on); color: var(--sc-over); border: 0;
      }
      .play svg { width: 32px; height: 32px; }
      :focus-visible { outline-color: var(--sc-over-on); }
    `,
  ];
  declare src: string | null;
  /** The show is over: nothing plays any more. */
  declare stopped: boolean;
  declare state: VideoState;
  declare muted: boolean;
  #hls: Hls | null = null;

  constructor() {
    super();
    this.src = null;
    this.stopped = false;
    this.state = "none";
    this.muted = true;
  }

  /** The programme time of the picture on screen; null when it is not known. */
  pictureTime(): Date | null {
    if (this.state !== "playing") return null;
    if (this.#hls !== null) return this.#hls.playingDate;
    const video: WithStartDate | null = this.#video;
    const start = video?.getStartDate?.();
    // A stream without programme date-time has an invalid date, whose time is NaN.
    if (video === null || start === undefined || Number.isNaN(start.getTime())) return null;
    return new Date(start.getTime() + video.currentTime * 1000);
  }

  toggleSound(): void {
    const video = this.#video;
    if (video === null) return;
    video.muted = !video.muted;
    this.muted = video.muted;
    this.#changed();
  }

  override disconnectedCallback(): void {
    this.#letGo();
    super.disconnectedCallback();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    if (this.hasUpdated) void this.#load();
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has("src")) void this.#load();
    if (changed.has("stopped") && this.stopped) this.#video?.pause();
  }

  protected override render(): TemplateResult {
    if (this.src === null) return html``;
    return html`<video
        playsinline
        autoplay
        .muted=${true}
        aria-label=${texts.video.region}
        @playing=${() => this.#become("playing")}
        @error=${() => this.#become("failed")}
        @click=${() => void this.#play()}
      ></video>
      ${
        this.state === "refused"
          ? html`<button class="button play" aria-label=${texts.video.play} @click=${() => void this.#play()}>${icons.play}</button>`
          : nothing
      }`;
  }

  get #video(): WithStartDate | null {
    return this.renderRoot.querySelector("video");
  }

  async #load(): Promise<void> {
    this.#letGo();
    const [video, src] = [this.#video, this.src];
    if (video === null || src === null) return this.#become("none");
    this.#become("loading");
    const isHls = new URL(src, location.href).pathname.endsWith(".m3u8");
    // A browser that plays HLS without telling the programme time is served better by hls.js, where that can run.
    const playsItself =
      video.canPlayType("application/vnd.apple.mpegurl") !== "" &&
      ("getStartDate" in video || !("MediaSource" in window));
    if (!isHls || playsItself) {
      video.src = src;
      return this.#play();
    }
    const { default: Library } = await import("hls.js/light");
    // While it came, the stream may have changed or the element may have gone.
    if (this.src !== src || !this.isConnected) return;
    if (!Library.isSupported()) return this.#become("failed");
    // Without a worker: it would be made of a blob, which strict policies refuse.
    const hls = new Library({ enableWorker: false, lowLatencyMode: true });
    this.#hls = hls;
    let recoveries = 0;
    hls.on(Library.Events.ERROR, (_event, { fatal, type }) => {
      if (!fatal) return;
      // What cannot be decoded at all would be recovered from for ever.
      recoveries += 1;
      if (type === Library.ErrorTypes.MEDIA_ERROR && recoveries <= RECOVERIES_MAX) hls.recoverMediaError();
      else this.#become("failed");
    });
    hls.on(Library.Events.MANIFEST_PARSED, () => void this.#play());
    hls.loadSource(src);
    hls.attachMedia(video);
  }

  async #play(): Promise<void> {
    try {
      await this.#video?.play();
    } catch (error) {
      // Another source, or the end of the element, stops a play that has begun.
      if (error instanceof DOMException && error.name === "NotAllowedError") this.#become("refused");
    }
  }

  #letGo(): void {
    this.#hls?.destroy();
    this.#hls = null;
    this.#video?.removeAttribute("src");
  }

  #become(state: VideoState): void {
    if (this.state === state) return;
    this.state = state;
    this.#changed();
  }

  #changed(): void {
    this.dispatchEvent(new Event("showcart-video"));
  }
}
customElements.define("showcart-video", Video);
