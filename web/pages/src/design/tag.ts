import { css, unsafeCSS } from "lit";

/** Where the hole is punched, from the left edge, and how large. */
const HOLE = { x: 18, radius: 6, slit: 1.5 };
const CORNER = 12;
const STEPS = 16;

/**
 * A price tag's outline, for `clip-path`: two cut corners on the left, a hole at half height, and the notch that leads to it
 * from the edge. One line around everything, so that it needs no mask and no picture. `inset` moves it inwards, for the paper
 * that lies in the hairline.
 */
function outline(inset: number): string {
  const { x, radius, slit } = HOLE;
  const r = radius + inset;
  const half = slit + inset;
  const corner = CORNER + inset * 0.41;
  const px = (value: number) => `${value.toFixed(2)}px`;
  const middle = (dy: number) => `calc(50% + ${px(dy)})`;
  const points = [
    [px(corner), px(inset)],
    [`calc(100% - ${px(inset)})`, px(inset)],
    [`calc(100% - ${px(inset)})`, `calc(100% - ${px(inset)})`],
    [px(corner), `calc(100% - ${px(inset)})`],
    [px(inset), `calc(100% - ${px(corner)})`],
    // In through the notch, once around the hole, and out again.
    [px(inset), middle(half)],
  ];
  const opening = Math.asin(half / r);
  for (let step = 0; step <= STEPS; step += 1) {
    const angle = Math.PI - opening - ((2 * Math.PI - 2 * opening) * step) / STEPS;
    points.push([px(x + r * Math.cos(angle)), middle(r * Math.sin(angle))]);
  }
  points.push([px(inset), middle(-half)], [px(inset), px(corner)]);
  return `polygon(${points.map((it) => it.join(" ")).join(", ")})`;
}

/** A card that is a price tag: `class="tag"`. */
export const tag = css`
  .tag { position: relative; isolation: isolate; padding-left: 34px; background: var(--sc-line-strong); clip-path: ${unsafeCSS(outline(0))}; }
  .tag::before {
    content: ""; position: absolute; inset: 0; z-index: -1; background: var(--sc-card); clip-path: ${unsafeCSS(outline(1))};
  }
`;
