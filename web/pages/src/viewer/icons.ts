import { svg, type SVGTemplateResult } from "lit";

/** Drawn for this page, 20 by 20, one line thick. */
const icon = (paths: SVGTemplateResult): SVGTemplateResult =>
  svg`<svg width="20" height="20" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${paths}</svg>`;

export const icons = {
  play: icon(svg`<path d="M6 4v12l10-6z" fill="currentColor"/>`),
  soundOn: icon(svg`<path d="M3 8v4h3l4 3.500v-11L6 8zM13 7.500a3.500 3.500 0 0 1 0 5M15.500 5a7 7 0 0 1 0 10"/>`),
  soundOff: icon(svg`<path d="M3 8v4h3l4 3.500v-11L6 8zM13.500 8l4 4M17.500 8l-4 4"/>`),
  light: icon(
    svg`<circle cx="10" cy="10" r="3.500"/><path d="M10 2v2M10 16v2M2 10h2M16 10h2M4.300 4.300l1.400 1.400M14.300 14.300l1.400 1.400M15.700 4.300l-1.400 1.400M5.700 14.300l-1.400 1.400"/>`,
  ),
  dark: icon(svg`<path d="M16.500 12.200A7 7 0 1 1 7.800 3.500a5.500 5.500 0 0 0 8.700 8.700z"/>`),
  close: icon(svg`<path d="M5 5l10 10M15 5L5 15"/>`),
  check: icon(svg`<path d="M4 10.500l4 4 8-9"/>`),
  list: icon(svg`<path d="M3 5h14M3 10h14M3 15h14"/>`),
  /** A large tag on a string, for where there is no picture. */
  tag: svg`<svg viewBox="0 0 400 400" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round" aria-hidden="true">
    <g transform="rotate(-18 200 200)"><path d="M96 120h290v180H96l-26-26v-60h24a14 14 0 1 0 0-8H70v-60z"/></g><path d="M86 252C10 190 20 60 190 4"/></svg>`,
  arrow: icon(svg`<path d="M4 10h12M11 5l5 5-5 5"/>`),
};
