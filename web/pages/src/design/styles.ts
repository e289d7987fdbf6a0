import { type CSSResult, unsafeCSS } from "lit";
import baseText from "./base.css";
import controlsText from "./controls.css";
import tokensText from "./tokens.css";

// Our own files, made part of the script by the build.
export const tokens: CSSResult = unsafeCSS(tokensText);
export const base: CSSResult = unsafeCSS(baseText);
export const controls: CSSResult = unsafeCSS(controlsText);
