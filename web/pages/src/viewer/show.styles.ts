import { unsafeCSS } from "lit";
import text from "./show.css";

export const styles = unsafeCSS(text);
