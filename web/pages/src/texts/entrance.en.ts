/** What the viewer page says when its address names no show. */
export const texts = {
  title: "Which show?",
  help: "A show is named by the part of the address behind the #. Without a token you watch as a guest.",
  show: "Show",
  token: "Your token (optional)",
  watch: "Watch",
};
