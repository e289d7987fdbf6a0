import { css } from "lit";

/** What the parts of the control panel share: small letters, close lines, figures that stand below each other. */
export const parts = css`
  :host { display: block; min-width: 0; color: var(--sc-ink); font-size: var(--sc-size-1); line-height: 1.35; }
  .button { min-height: var(--desk-touch, 36px); padding: 4px var(--sc-3); font-size: var(--sc-size-1); }
  .button.icon { width: var(--desk-touch, 36px); padding: 0; }
  kbd {
    display: inline-grid; place-items: center; min-width: 20px; height: 20px; padding: 0 5px; border: 1px solid var(--sc-line-strong);
    border-radius: var(--sc-radius); background: var(--sc-card); color: var(--sc-quiet); font: 700 0.75rem/1 var(--sc-font);
  }
  @media (hover: none), (max-width: 699px) { .button kbd, .tabs kbd { display: none; } }
  .note { padding: 6px var(--sc-2); font-weight: 600; overflow-wrap: anywhere; background: var(--sc-sunk); border-left: 3px solid var(--sc-line-strong); }
  .note.done { border-color: var(--sc-money-fill); }
  .note.stale { border-color: var(--sc-scarce-fill); color: var(--sc-ink); }
  .note.bad { border-color: var(--sc-signal); color: var(--sc-signal-text); }
  .name { font-weight: 700; overflow-wrap: anywhere; }
  .one-line { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .row { display: flex; align-items: center; gap: var(--sc-2); min-width: 0; }
  .row > .grow { flex: 1; min-width: 0; }
  .push { margin-left: auto; }
  label { display: grid; gap: 2px; min-width: 0; font-weight: 700; color: var(--sc-quiet); }
  input, select, textarea {
    width: 100%; min-height: var(--desk-touch, 36px); padding: 4px var(--sc-2); background: var(--sc-card); color: var(--sc-ink); font-size: var(--sc-size-2); font-weight: 400;
    border: 1px solid var(--sc-line-strong); border-radius: var(--sc-radius);
  }
  textarea { display: block; resize: none; line-height: 1.3; }
  input[type="checkbox"] { width: 18px; min-height: 18px; height: 18px; margin: 0; accent-color: var(--sc-money-fill); }
  label.check { display: flex; align-items: center; gap: var(--sc-2); min-height: var(--desk-touch, 36px); font-weight: 400; color: var(--sc-ink); }
  :focus-visible { outline-width: 2px; outline-offset: 1px; }
`;
