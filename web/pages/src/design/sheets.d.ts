/** `build.mjs` makes their text of them. */
declare module "*.css" {
  const text: string;
  export default text;
}

/** The light build has the types of the whole. */
declare module "hls.js/light" {
  export { default } from "hls.js";
  export * from "hls.js";
}
